// A process with many connections starts other programs, in every way that there is.
//
//   starts ADDRESS PORT FLOWS SECONDS lane|tcp
//   starts --show
//
// Makes FLOWS connections to an echo server, one in ten without close-on-exec, and waits until a lane carries them all,
// if one is to. Then it starts itself with --show: in each way while the connections are idle, and while another thread
// uses them; at last with a connection as its output. --show says what it hears on its input, lists its descriptors,
// and ends with 7.
//
// Each start takes SECONDS at most. After each, every connection carries a message, and where there is a lane not one
// byte of it comes by TCP, as the kernel counts. Prints what the programs said and how they ended: the same with the
// library as without. Exit status 0 unless something went wrong.

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int kStatus = 7;
constexpr int kLeaks = 10;  // one in so many has no close-on-exec

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "starts: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// ---- what is started

// "socket:[123]" and "/some/file" as what they are.
std::string kind_of(const std::string& link) {
  char target[4096];
  const ssize_t size = readlink(link.c_str(), target, sizeof target);
  const std::string name(target, size > 0 ? static_cast<size_t>(size) : 0);
  return name.starts_with('/') ? "file" : name.substr(0, name.find(":["));
}

int show() {
  for (int c; (c = std::getchar()) != EOF;) std::putchar(c);
  std::map<int, std::string> kinds;
  DIR* folder = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(folder)) {
    const int number = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && number != dirfd(folder))
      kinds[number] = kind_of("/proc/self/fd/" + std::string(entry->d_name));
  }
  std::string line = "descriptors:";
  for (const auto& [number, kind] : kinds) line += " " + std::to_string(number) + " " + kind;
  std::puts(line.c_str());
  return kStatus;
}

// ---- the connections

struct Flow {
  int fd = -1;
  uint64_t by_kernel = 0;  // bytes received, when a lane had begun to carry it
  bool entered = false;
};
std::vector<Flow> flows;

uint64_t received_by_kernel(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) die("TCP_INFO");
  return info.tcpi_bytes_received;
}

std::string heard(int fd, size_t size) {
  std::string bytes(size, 0);
  for (size_t have = 0; have < size;) {
    const ssize_t n = read(fd, bytes.data() + have, size - have);
    if (n <= 0) die("read");
    have += static_cast<size_t>(n);
  }
  return bytes;
}

void round_trip(int fd) {
  static std::atomic<unsigned> number = 0;
  const std::string message = "message " + std::to_string(++number) + " to " + std::to_string(fd);
  if (write(fd, message.data(), message.size()) != static_cast<ssize_t>(message.size())) die("write");
  if (heard(fd, message.size()) != message) die("not what was sent");
}

// All sockets first, so that they have the same numbers whatever else is opened when the first one connects.
void connect_all(const sockaddr_in& name, size_t count) {
  flows.resize(count);
  for (size_t i = 0; i < count; ++i)
    flows[i].fd = socket(AF_INET, SOCK_STREAM | (i % kLeaks == 0 ? 0 : SOCK_CLOEXEC), 0);
  for (const auto& flow : flows) {
    if (connect(flow.fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
    round_trip(flow.fd);
  }
}

void enter_lane() {
  const char* patience = std::getenv("E2E_PATIENCE");
  const auto deadline = Clock::now() + std::chrono::seconds(patience ? std::atoi(patience) : 20);
  const auto entered = [](const Flow& flow) { return flow.entered; };
  while (!std::all_of(flows.begin(), flows.end(), entered)) {
    if (Clock::now() > deadline) die("not all are in the lane");
    for (auto& flow : flows) {
      const auto before = received_by_kernel(flow.fd);
      round_trip(flow.fd);
      flow.by_kernel = received_by_kernel(flow.fd);
      flow.entered = flow.by_kernel == before;
    }
  }
}

// None of those in the lane has left it.
void check_all(const std::string& after) {
  for (const auto& flow : flows) {
    round_trip(flow.fd);
    if (flow.entered && received_by_kernel(flow.fd) != flow.by_kernel) die("back on TCP after " + after);
  }
}

// ---- ways to start a program

std::string program;

std::vector<char*> words() { return {program.data(), const_cast<char*>("--show"), nullptr}; }

int status_of(pid_t child) {
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) die("no child");
  return status;
}

// Passes on what a program says.
void copy(FILE* from) {
  for (int c; (c = std::getc(from)) != EOF;) std::putchar(c);
}

int by_fork() {  // which is no program yet
  const pid_t child = fork();
  if (child == 0) _exit(kStatus);
  return status_of(child);
}

int by_fork_and_exec() {
  const pid_t child = fork();
  if (child == 0) execv(program.c_str(), words().data()), _exit(1);
  return status_of(child);
}

int by_vfork_and_exec() {
  const auto arguments = words();
  const pid_t child = vfork();
  if (child == 0) execve(program.c_str(), arguments.data(), environ), _exit(1);
  return status_of(child);
}

int by_system() { return std::system((program + " --show").c_str()); }

int by_popen_to_read() {
  FILE* stream = popen((program + " --show").c_str(), "r");
  if (!stream) die("popen");
  copy(stream);
  return pclose(stream);
}

int by_popen_to_write() {
  FILE* stream = popen((program + " --show").c_str(), "w");
  if (!stream) die("popen");
  std::fputs("hello\n", stream);
  return pclose(stream);
}

pid_t spawned(const posix_spawn_file_actions_t* actions) {
  pid_t child = -1;
  errno = posix_spawn(&child, program.c_str(), actions, nullptr, words().data(), environ);
  return errno == 0 ? child : -1;
}

int by_posix_spawn() { return status_of(spawned(nullptr)); }

int by_posix_spawn_with_actions() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe2");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/etc/hostname", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, flows.front().fd);  // one without close-on-exec
  const pid_t child = spawned(&actions);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  FILE* stream = fdopen(ends[0], "r");
  copy(stream);
  std::fclose(stream);
  return status_of(child);
}

// What the program says comes back over the connection, which is its output; it has left the lane, and no other has.
void print_answer(int fd) {
  for (std::string byte; byte != "\n"; std::fputs(byte.c_str(), stdout)) byte = heard(fd, 1);
}

int by_posix_spawn_with_a_flow() {
  auto& given = flows[flows.size() - 1];
  given.entered = false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, given.fd, 1);
  const pid_t child = spawned(&actions);
  posix_spawn_file_actions_destroy(&actions);
  print_answer(given.fd);
  return status_of(child);
}

int by_fork_and_exec_with_a_flow() {
  auto& given = flows[flows.size() - 2];
  given.entered = false;
  const pid_t child = fork();
  if (child == 0) dup2(given.fd, 1), execv(program.c_str(), words().data()), _exit(1);
  print_answer(given.fd);
  return status_of(child);
}

struct Way {
  const char* name;
  int (*start)();
};
constexpr Way kWays[] = {
    {"fork", by_fork},
    {"fork and exec", by_fork_and_exec},
    {"vfork and exec", by_vfork_and_exec},
    {"system", by_system},
    {"popen to read", by_popen_to_read},
    {"popen to write", by_popen_to_write},
    {"posix_spawn", by_posix_spawn},
    {"posix_spawn with file actions", by_posix_spawn_with_actions},
};
constexpr Way kWaysWithAFlow[] = {
    {"posix_spawn with a flow", by_posix_spawn_with_a_flow},
    {"fork and exec with a flow", by_fork_and_exec_with_a_flow},
};

void go(const Way& way, Seconds at_most) {
  std::printf("== %s\n", way.name);
  std::fflush(stdout);
  const auto begun = Clock::now();
  const int status = way.start();
  const Seconds took = Clock::now() - begun;
  std::printf("status 0x%x\n", status);
  if (took > at_most) die(way.name + (" took " + std::to_string(took.count())) + " s");
}

// While another thread uses the connections.
void go_busily(const Way& way, Seconds at_most) {
  std::atomic<bool> ended = false;
  std::thread user([&] {
    while (!ended) check_all("a start");
  });
  go(way, at_most);
  ended = true;
  user.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--show") == 0) return show();
  sockaddr_in name{};
  name.sin_family = AF_INET;
  if (argc != 6 || inet_pton(AF_INET, argv[1], &name.sin_addr) != 1)
    return std::fprintf(stderr, "usage: starts ADDRESS PORT FLOWS SECONDS lane|tcp\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  const Seconds at_most(std::atof(argv[4]));
  program = argv[0];
  unsetenv("LD_PRELOAD");  // what it lists is what it was given: no library opens anything there
  connect_all(name, static_cast<size_t>(std::atoi(argv[3])));
  if (argv[5] == std::string("lane")) enter_lane();
  for (const auto& way : kWays) go(way, at_most), check_all(way.name);
  for (const auto& way : kWays) go_busily(way, at_most), check_all(way.name);
  for (const auto& way : kWaysWithAFlow) go(way, at_most), check_all(way.name);
  std::puts("done");
}
