#pragma once
// A connection of a program to itself, and whether it is in its lane.

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <initializer_list>

#include "tests/shell/check.hpp"

struct Connection {
  int client, server;
};

inline Connection connect_to_itself() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  CHECK(bind(listener, generic, size) == 0);
  CHECK(listen(listener, 1) == 0);
  CHECK(getsockname(listener, generic, &size) == 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, generic, size) == 0);
  const int server = accept(listener, nullptr, nullptr);
  CHECK(server >= 0);
  close(listener);
  return {client, server};
}

inline uint64_t received_by_kernel(const Connection& it) {
  uint64_t sum = 0;
  for (const int fd : {it.client, it.server}) {
    tcp_info found{};
    socklen_t size = sizeof found;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &found, &size) == 0);
    sum += found.tcpi_bytes_received;
  }
  return sum;
}

inline void say(int from, int to) {
  char got = 0;
  CHECK(send(from, "x", 1, 0) == 1);
  CHECK(recv(to, &got, 1, 0) == 1);
  CHECK(got == 'x');
}

// Whether the kernel sees none of a byte that goes over each way.
inline bool in_lane(const Connection& it) {
  const auto before = received_by_kernel(it);
  say(it.client, it.server);
  say(it.server, it.client);
  return received_by_kernel(it) == before;
}
