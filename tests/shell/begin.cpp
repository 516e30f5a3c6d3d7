// begin listen|connect: the first selected call of a process, which has the library load rdma-core. Prints how long the
// call took, in milliseconds, and whether the next file that is opened has the lowest free number; then how long that
// took.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string_view>

namespace {

int64_t milliseconds_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int lowest_free() {
  int fd = 0;
  while (fcntl(fd, F_GETFD) >= 0) ++fd;
  return fd;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view what = count > 1 ? arguments[1] : "";
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address)) return 1;
  const int expected = lowest_free();
  const auto begun = milliseconds_now();
  if (what == "listen") {
    if (listen(fd, 1)) return 1;
  } else {
    address.sin_port = htons(1);  // nobody listens there
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return 1;
  }
  const auto called = milliseconds_now();
  const int next = open("/dev/null", O_RDONLY);
  const auto opened = milliseconds_now();
  std::printf("%s %d ms, open %d ms, %s\n", arguments[1], static_cast<int>(called - begun),
              static_cast<int>(opened - called), next == expected ? "the lowest" : "another number");
}
