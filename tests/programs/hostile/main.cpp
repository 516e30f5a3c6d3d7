// A peer that misbehaves, played by hand over RDMA-CM and verbs, for tests of what a live preloaded process makes of
// it.
//
//   hostile server ADDRESS PORT MISDEED...    a plain TCP server that dials the preloaded client which connects to it
//   hostile client ADDRESS PORT MISDEED...    a plain TCP client that lets the preloaded server dial it
//   hostile server|client list
//   hostile relay-to-client ADDRESS PORT HALF-PORT        between a preloaded server and a preloaded client of its,
//   which connects to
//                                                         PORT as well, and may connect to the server when it is sent a
//                                                         byte there
//   hostile relay-to-server ADDRESS PORT HALF HALF-PORT   the other half of it, which finds the first at HALF
//
// One misdeed after the other, each on a connection of its own. Each prints
//
//   NAME: link refused|never|kept|lost, tcp works|over|silent, N dials
//
// `tcp works`: a PING on the connection was answered afterwards. After NAME+ the link stays up, if it is, and the
// connection; else both are let go. The program says "done" at the end of the list, and waits for SIGTERM. The other
// program is a Redis server, or one that sends back whatever comes.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "tests/programs/hostile/acts.hpp"
#include "tests/programs/hostile/relay.hpp"

using namespace hostile;

namespace {

std::vector<Act> all_acts() {
  std::vector<Act> all;
  for (const auto acts : {greetings, misdeeds, departures, dials})
    for (auto& act : acts()) all.push_back(std::move(act));
  return all;
}

int connection(const sockaddr_in& name, int listener) {
  if (listener >= 0) return ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
  return fd;
}

int listen_at(const sockaddr_in& name) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || ::listen(fd, 64) != 0) die("listen");
  return fd;
}

// Of a role.
std::vector<Act> acts_of(bool server) {
  std::vector<Act> its;
  for (auto& act : all_acts())
    if (act.who == Who::either || (act.who == Who::server) == server) its.push_back(std::move(act));
  return its;
}

sockaddr_in name_of(const char* address, const char* port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  if (inet_pton(AF_INET, address, &name.sin_addr) != 1) die(address);
  return name;
}

int relay_to_client(const sockaddr_in& own, const char* half_port) {
  auto half = own;
  half.sin_port = htons(static_cast<uint16_t>(std::atoi(half_port)));
  const int for_client = listen_at(own), for_half = listen_at(half);
  std::puts("ready");
  Play client(connection(own, for_client), true);
  return hostile::relay_to_client(client, connection(half, for_half));
}

int relay_to_server(const sockaddr_in& server, const sockaddr_in& half) {
  Play play(connection(server, -1), false);
  return hostile::relay_to_server(play, connection(half, -1));
}

// Plays it and says what it came to.
std::unique_ptr<Play> played(const Act& act, int fd, bool server) {
  auto play = std::make_unique<Play>(fd, server);
  act.play(*play);
  const auto* fate = play->fate();
  const auto* tcp = play->tcp.probe();
  std::printf("%s: link %s, tcp %s, %d dials\n", act.name.c_str(), fate, tcp, play->dials);
  return play;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  const bool server = role == "server", known = server || role == "client";
  const auto acts = acts_of(server);
  if (known && argc == 3 && std::string_view(argv[2]) == "list") {
    for (const auto& act : acts) std::puts(act.name.c_str());
    return 0;
  }
  const bool to_client = role == "relay-to-client" && argc == 5, to_server = role == "relay-to-server" && argc == 6;
  if (!(known || to_client || to_server) || argc < 5)
    return std::fprintf(stderr,
                        "usage: hostile server|client ADDRESS PORT MISDEED... | server|client list | "
                        "relay-to-client ADDRESS PORT HALF-PORT | relay-to-server ADDRESS PORT HALF HALF-PORT\n"),
           2;
  const auto name = name_of(argv[2], argv[3]);
  ::alarm(240);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (to_client) return relay_to_client(name, argv[4]);
  if (to_server) return relay_to_server(name, name_of(argv[4], argv[5]));
  const int listener = server ? listen_at(name) : -1;
  std::puts("ready");

  std::vector<std::unique_ptr<Play>> held;
  for (int i = 4; i < argc; ++i) {
    const std::string_view wanted = argv[i];
    const auto called = wanted.substr(0, wanted.find('+'));
    const auto act = std::find_if(acts.begin(), acts.end(), [&](const Act& each) { return each.name == called; });
    if (act == acts.end()) return std::fprintf(stderr, "hostile: no misdeed %s\n", argv[i]), 2;
    const int fd = connection(name, listener);
    if (fd < 0) die("accept");
    auto play = played(*act, fd, server);
    if (wanted.ends_with('+') && play->holds()) held.push_back(std::move(play));
  }
  std::puts("done");
  for (;;) ::pause();
}
