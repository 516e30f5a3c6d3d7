#include "tools/processes.hpp"

#include <fmt/format.h>
#include <fnmatch.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

namespace rsock::tools {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(3000);  // with a process that is to answer
constexpr auto kPause = std::chrono::milliseconds(10);
constexpr unsigned kListens = 0x10000;  // __SO_ACCEPTCON of the kernel, as /proc/net/unix shows it

/// The control sockets of this network namespace. A line of /proc/net/unix: address, count, protocol, flags, type, state, inode, name.
std::vector<std::string> sockets() {
  const std::string prefix = std::string("@") + wire::kControlPrefix;
  std::vector<std::string> found;
  std::ifstream lines("/proc/net/unix");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string address, count, protocol, flags, type, state, inode, name;
    words >> address >> count >> protocol >> flags >> type >> state >> inode >> name;
    unsigned bits = 0;
    std::from_chars(flags.data(), flags.data() + flags.size(), bits, 16);
    if (name.starts_with(prefix) && name.size() < sizeof(sockaddr_un::sun_path) && (bits & kListens)) found.push_back(name.substr(1));
  }
  return found;
}

/// Its program may call itself whatever it likes.
std::string printable(std::string text) {
  for (char& c : text)
    if (!std::isprint(static_cast<unsigned char>(c))) c = '?';
  return text;
}

bool readable(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return ::poll(&asked, 1, static_cast<int>(kPatience.count())) == 1;
}

}  // namespace

Process::Process(Process&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pid_(other.pid_), program_(std::move(other.program_)) {}

Process::~Process() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<Process> Process::connect(const std::string& socket) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, socket.data(), socket.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + socket.size());
  Process made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 0);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (::connect(made.fd_, reinterpret_cast<sockaddr*>(&name), size) != 0) {
    if (errno != EAGAIN || std::chrono::steady_clock::now() > deadline) return {};  // EAGAIN: many callers before us
    ::usleep(static_cast<useconds_t>(std::chrono::microseconds(kPause).count()));
  }
  ucred owner{};
  socklen_t length = sizeof owner;
  if (::getsockopt(made.fd_, SOL_SOCKET, SO_PEERCRED, &owner, &length) != 0) return {};
  // Nobody else's word is taken: anybody may open a socket of such a name. A process of root's may have become this user's since.
  if (::geteuid() != 0 && owner.uid != ::geteuid() && owner.uid != 0) return {};
  made.pid_ = owner.pid;
  return made;
}

std::optional<wire::ControlAnswer> Process::ask(wire::Order order, std::uint16_t port) const {
  const auto request = wire::encode(wire::ControlRequest{order, port});
  if (::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) < 0) return {};
  if (!readable(fd_)) return {};
  std::vector<std::uint8_t> bytes(wire::kControlAnswerMost + 1);
  const auto got = ::recv(fd_, bytes.data(), bytes.size(), 0);
  if (got <= 0) return {};
  return wire::decode_control_answer({bytes.data(), static_cast<std::size_t>(got)});
}

bool Process::hung_up() const {
  pollfd asked{fd_, 0, 0};
  return ::poll(&asked, 1, 0) == 1;
}

std::string Process::name() const { return fmt::format("{}[{}]", printable(program_), pid_); }

std::vector<Process> Process::find(const Selection& selection) {
  std::vector<Process> found;
  for (const auto& socket : sockets()) {
    auto process = connect(socket);
    if (!process || (selection.pid && process->pid_ != *selection.pid)) continue;
    if (const auto told = process->ask(wire::Order::tell)) {
      process->program_ = told->program;
      // The process ids of another namespace are not known here.
      if (process->pid_ == 0) process->pid_ = static_cast<pid_t>(told->process);
    } else if (process->hung_up()) {
      continue;  // it does not hear us, or has ended
    }
    if (!selection.program.empty() && ::fnmatch(selection.program.c_str(), process->program_.c_str(), 0) != 0) continue;
    found.push_back(std::move(*process));
  }
  return found;
}

}  // namespace rsock::tools
