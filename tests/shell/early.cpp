// A library whose constructor uses sockets before the shell's own constructor ran, and whose destructor uses
// one after the program's last handler.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/shell/check.hpp"

namespace {

int left_open = -1;

[[gnu::constructor]] void early() {
  CHECK_ERRNO(accept(0, nullptr, nullptr), ENOTSOCK);
  const int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(listen(listener, 1) == 0 && getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  CHECK(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  left_open = accept(listener, nullptr, nullptr);
  CHECK(left_open >= 0 && send(client, "a", 1, 0) == 1);
  char byte = 0;
  CHECK(recv(left_open, &byte, 1, 0) == 1);
  close(client);
  close(listener);
}

[[gnu::destructor]] void late() { (void)send(left_open, "z", 1, MSG_NOSIGNAL); }

}  // namespace

extern "C" __attribute__((visibility("default"))) int early_socket() { return left_open; }
