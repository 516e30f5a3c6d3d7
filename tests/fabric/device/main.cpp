// The device: a process of its own, which serves all processes that find its socket beside their library.
//
//   fabric SOCKET [seed=NUMBER] [KIND[=SHARE]]...
//
// Prints a line when it serves, and ends with its standard input. The kinds say what goes wrong, and how
// often; `fabric --help` lists them. Without any it is perfect.

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tests/fabric/device/device.hpp"

namespace fabric {
namespace {

Descriptor listening(const char* path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof name.sun_path) return errno = ENAMETOOLONG, Descriptor();
  std::strcpy(name.sun_path, path);
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on,
             sizeof on);  // of the lines, too: who it is that asks
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) < 0 || chmod(path, 0666) < 0 ||
      listen(socket.get(), SOMAXCONN) < 0)
    return Descriptor();
  return socket;
}

int run(int count, char** words) {
  if (count < 2 || words[1][0] == '-') {
    std::printf("usage: fabric SOCKET [seed=NUMBER] [KIND[=SHARE]]...\n\n%s", Chance::kinds().c_str());
    return count < 2 ? 2 : 0;
  }
  Chance chance;
  for (int at = 2; at < count; ++at)
    if (!chance.set(words[at])) return std::fprintf(stderr, "fabric: %s means nothing\n", words[at]), 2;
  signal(SIGPIPE, SIG_IGN);
  auto socket = listening(words[1]);
  if (!socket) return std::perror(words[1]), 1;
  std::puts("serves");
  std::fflush(stdout);
  Device device(std::move(socket), chance);
  device.run();
}

}  // namespace
}  // namespace fabric

int main(int count, char** words) { return fabric::run(count, words); }
