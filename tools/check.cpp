#include "tools/check.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include "core/base/unique_fd.hpp"
#include "tools/explain.hpp"
#include "tools/processes.hpp"
#include "tools/run.hpp"
#include "tools/table.hpp"
#include "tools/time_option.hpp"

namespace rsock::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct CheckArguments {
  std::string target;
  std::string lane = "auto";
  std::optional<std::string> text;
  double within = 5;  // seconds
  bool json = false;
  bool as_client = false;  // this process is the one that connects, with the library
};

// ---- the process that has the library: what it does it says on stdout, a line each, until stdin ends

void say(std::string line) {
  line += '\n';
  (void)!::write(STDOUT_FILENO, line.data(), line.size());
}

struct Names {
  std::string host, port;
};

std::string bytes_text(std::size_t count) { return fmt::format("{} byte{}", count, count == 1 ? "" : "s"); }

/// "HOST:PORT" or "[ADDRESS]:PORT", with a port from 1 to 65535.
std::optional<Names> names_in(const std::string& target) {
  const auto colon = target.rfind(':');
  if (colon == target.npos || colon == 0 || colon + 1 == target.size()) return {};
  auto host = target.substr(0, colon);
  if (host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != host.npos)
    return {};
  const auto port = target.substr(colon + 1);
  constexpr std::size_t kDigits = 5;
  const bool number = port.size() <= kDigits && port.find_first_not_of("0123456789") == port.npos;
  if (!number || std::stoi(port) < 1 || std::stoi(port) > 65535) return {};
  return Names{host, port};
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;
Addresses resolve(const Names& names, int flags, std::string& error) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = flags | AI_NUMERICSERV;
  if (const int failed = ::getaddrinfo(names.host.c_str(), names.port.c_str(), &wanted, &found))
    error = ::gai_strerror(failed);
  return {found, &::freeaddrinfo};
}

std::string numeric(const sockaddr* address, socklen_t size) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(address, size, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "?";
  if (address->sa_family == AF_INET6) return fmt::format("[{}]:{}", host.data(), port.data());
  return fmt::format("{}:{}", host.data(), port.data());
}

int fails(const char* what) {
  say(fmt::format("failed {}: {}", what, std::strerror(errno)));
  return kFailure;
}

int be_client(const CheckArguments& arguments) {
  std::string error;
  const auto names = names_in(arguments.target);
  const auto found = names ? resolve(*names, AI_NUMERICHOST, error) : Addresses(nullptr, &::freeaddrinfo);
  if (!found) return kUsage;
  const UniqueFd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), found->ai_addr, found->ai_addrlen) != 0) return fails("connect");
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  (void)::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &size);
  say("connect from " + numeric(reinterpret_cast<const sockaddr*>(&own), size));
  if (arguments.text) {
    if (::send(socket.get(), arguments.text->data(), arguments.text->size(), MSG_NOSIGNAL) < 0) return fails("send");
    say(fmt::format("send {}", bytes_text(arguments.text->size())));
  }
  std::array<pollfd, 2> both{{{STDIN_FILENO, POLLIN, 0}, {socket.get(), POLLIN, 0}}};
  while (::poll(both.data(), both.size(), -1) >= 0) {
    if (both[0].revents) break;
    std::array<char, 65536> bytes;
    const auto got = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
    if (got < 0) return fails("receive");
    say(got == 0 ? "end by the peer" : fmt::format("receive {}", bytes_text(static_cast<std::size_t>(got))));
    if (got == 0) both[1].fd = -1;
  }
  return kSuccess;
}

// ---- beside it

struct Client {
  pid_t process = -1;
  UniqueFd said, held;  // its stdout, and what its stdin waits for
};

Client start(const CheckArguments& arguments, const std::string& address) {
  std::array<int, 2> out{}, in{};
  if (::pipe2(out.data(), O_CLOEXEC) != 0 || ::pipe2(in.data(), O_CLOEXEC) != 0)
    throw std::runtime_error(std::strerror(errno));
  Client made{::fork(), UniqueFd(out[0]), UniqueFd(in[1])};
  if (made.process < 0) throw std::runtime_error(std::strerror(errno));
  if (made.process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    RunArguments run_arguments;
    run_arguments.connect = {address};
    run_arguments.lane = arguments.lane;
    run_arguments.command = {"/proc/self/exe", "check", "--as-client", address};
    if (arguments.text) run_arguments.command.insert(run_arguments.command.end(), {"--send", *arguments.text});
    ::_exit(run(run_arguments));
  }
  ::close(out[1]);
  ::close(in[0]);
  return made;
}

class Check {
 public:
  explicit Check(const CheckArguments& arguments) : arguments_(arguments) {}

  ExitStatus run(const Names& names) {
    std::string error;
    const auto found = resolve(names, 0, error);
    if (!found) return end(kFailure, fmt::format("{}: {}", names.host, error));
    const auto address = numeric(found->ai_addr, found->ai_addrlen);
    stage("resolve", address);
    client_ = start(arguments_, address);
    const auto deadline =
        begun_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(arguments_.within));
    while (!lane_ && reason_.empty() && failure_.empty() && Clock::now() < deadline) {
      listen();
      look();
    }
    leave();
    if (lane_) return end(kSuccess, "");
    if (!failure_.empty()) return end(kFailure, failure_);
    if (!reason_.empty()) return end(kNoLane, with_meaning(reason_) + unused());
    return end(kNoLane, fmt::format("still on TCP after {} s; `rsock doctor` and the server's log may tell more{}",
                                    arguments_.within, unused()));
  }

 private:
  void stage(const std::string& name, const std::string& text) {
    const auto ms = std::chrono::duration<double, std::milli>(Clock::now() - begun_).count();
    if (!arguments_.json) fmt::print("{:<8} {:<40} {:>9.1f} ms\n", name, printable(text), ms);
    stages_.push_back({{"stage", name}, {"text", printable(text)}, {"ms", ms}});
  }

  /// What the client says, for a while.
  void listen() {
    constexpr int kLook = 20;  // ms
    pollfd one{client_.said.get(), POLLIN, 0};
    if (::poll(&one, 1, kLook) <= 0) return;
    std::array<char, 4096> bytes;
    const auto got = ::read(client_.said.get(), bytes.data(), bytes.size());
    if (got <= 0) {
      if (failure_.empty()) failure_ = "the connection was given up";
      return;
    }
    heard_.append(bytes.data(), static_cast<std::size_t>(got));
    for (std::size_t line; (line = heard_.find('\n')) != heard_.npos; heard_.erase(0, line + 1)) {
      const auto text = heard_.substr(0, line);
      const auto space = text.find(' ');
      if (text.starts_with("failed "))
        failure_ = text.substr(space + 1);
      else
        stage(text.substr(0, space), space == text.npos ? "" : text.substr(space + 1));
    }
  }

  /// Where its flow is, as the library in it tells.
  void look() {
    constexpr std::string_view kKeys[] = {"lane", "link", "why"};
    auto processes = Process::find({.pid = client_.process});
    const auto told = Process::read(processes, wire::Order::flows);
    if (told.empty() || told[0].lines.empty()) return;
    const auto row = read_row(kKeys, told[0].lines[0]);
    if (row["link"].is_number() && !linked_)
      linked_ = true, stage("link", fmt::format("link {}", row["link"].get<std::uint64_t>()));
    if (row["why"].is_string()) reason_ = row["why"].get<std::string>();
    const auto lane = row["lane"].is_string() ? row["lane"].get<std::string>() : "";
    if (lane == "rdma" || lane == "shm") lane_ = true, stage("lane", lane);
  }

  void leave() {
    client_.held.reset();
    constexpr int kPatience = 100;
    for (int i = 0; i < kPatience && ::waitpid(client_.process, nullptr, WNOHANG) == 0; ++i) ::usleep(20'000);
    ::kill(client_.process, SIGKILL);
    (void)::waitpid(client_.process, nullptr, 0);
  }

  /// Which a server that does run with the library need not have done yet.
  std::string unused() const {
    return arguments_.text ? ""
                           : "; or its program has not used the connection: --send TEXT gives it something to read";
  }

  ExitStatus end(ExitStatus status, const std::string& why) const {
    if (arguments_.json)
      fmt::print("{}\n",
                 nlohmann::ordered_json{
                     {"stages", stages_}, {"lane", lane_}, {"why", why.empty() ? Row() : Row(printable(why))}}
                     .dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    else if (!why.empty())
      fmt::print("{:<8} {}\n", status == kFailure ? "failed" : "tcp", printable(why));
    return status;
  }

  const CheckArguments& arguments_;
  const Clock::time_point begun_ = Clock::now();
  Client client_;
  std::string heard_, failure_, reason_;
  bool linked_ = false, lane_ = false;
  std::vector<Row> stages_;
};

ExitStatus check(const CheckArguments& arguments) {
  const auto names = names_in(arguments.target);
  if (!names)
    throw CLI::ValidationError("HOST:PORT",
                               fmt::format("{} is neither HOST:PORT nor [ADDRESS]:PORT", printable(arguments.target)));
  if (arguments.as_client) return static_cast<ExitStatus>(be_client(arguments));
  ::signal(SIGPIPE, SIG_IGN);
  return Check(arguments).run(*names);
}

}  // namespace

Command add_check(CLI::App& app) {
  auto* command =
      app.add_subcommand("check", "Connect to a server, and tell how the connection gets into a lane, or why not");
  const auto arguments = std::make_shared<CheckArguments>();
  command->add_option("HOST:PORT", arguments->target, "the server; an IPv6 address in brackets")
      ->required()
      ->type_name("");
  command->add_option("--lane", arguments->lane, "auto (default), rdma or shm")
      ->check(CLI::IsMember({"auto", "rdma", "shm"}))
      ->type_name("LANE");
  command->add_option("--send", arguments->text, "what the server gets to read; without, not a byte")
      ->type_name("TEXT");
  command->add_option("--within", arguments->within, "how long it may take (default 5s): 500ms, 10s")
      ->transform(seconds_up_to(3600))
      ->type_name("TIME");
  command->add_flag("--json", arguments->json, "as JSON");
  command->add_flag("--as-client", arguments->as_client, "be the process that connects")->group("");
  command->footer(
      "The connection is a real one, made by a process with librsock, whatever the configuration file selects. Servers "
      "look for a lane when\n"
      "they first read or write, most of them when something has come: --send gives them something, such as "
      "$'PING\\r\\n' for Redis.\n"
      "A line for each stage, with the time since the beginning.\n"
      "Exit status: 0 it got into a lane, 3 it did not, 1 there was no connection, 2 a wrong command line.");
  return {command, [arguments] { return check(*arguments); }};
}

}  // namespace rsock::tools
