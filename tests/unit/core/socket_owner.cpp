// Whose the other end of a connection is: the kernel's own answers about connections of this process, and
// lines of its table.

#include "core/base/socket_owner.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "core/base/unique_fd.hpp"

using namespace rsock;

namespace {

struct Pair {
  UniqueFd listener, client, server;
  Endpoint here, there;  // as the client sees them

  explicit Pair(int family = AF_INET) {
    listener = UniqueFd(socket(family, SOCK_STREAM, 0));
    sockaddr_storage name{};
    name.ss_family = static_cast<sa_family_t>(family);  // any address
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
    REQUIRE(listen(listener.get(), 1) == 0);
    size = sizeof name;
    REQUIRE(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = family == AF_INET ? reinterpret_cast<sockaddr_in&>(name).sin_port
                                    : reinterpret_cast<sockaddr_in6&>(name).sin6_port;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client = UniqueFd(socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
    parse(reinterpret_cast<sockaddr&>(to), there);
    size = sizeof name;
    REQUIRE(getsockname(client.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
    parse(reinterpret_cast<sockaddr&>(name), here);
  }
  void accept() { REQUIRE((server = UniqueFd(::accept(listener.get(), nullptr, nullptr))).get() >= 0); }
  TcpEnd client_end() const { return {here, there, inode_of(client.get())}; }
  TcpEnd server_end() const { return {there, here, inode_of(server.get())}; }
};

SocketOwners::Row row_of(const char* line) {
  SocketOwners::Row row{};
  REQUIRE(parse_tcp_row(line, row));
  return row;
}

bool counts(const char* line) {
  SocketOwners::Row row{};
  return parse_tcp_row(line, row);
}

}  // namespace

TEST_CASE("The owner of the other end is told of a connection that a program has", "[socket_owner]") {
  const auto family = GENERATE(AF_INET, AF_INET6);
  Pair pair(family);
  CHECK(diagnosed_owner(pair.client_end()).is(ENOENT));  // not accepted: nobody's, though it shows as root's
  pair.accept();
  auto owner = diagnosed_owner(pair.client_end());
  REQUIRE(owner);
  CHECK(*owner == geteuid());
  owner = diagnosed_owner(pair.server_end());
  REQUIRE(owner);
  CHECK(*owner == geteuid());
  pair.client = UniqueFd();
  CHECK_FALSE(diagnosed_owner(pair.server_end()));
}

TEST_CASE("An end that is not ours tells nothing", "[socket_owner]") {
  Pair pair;
  pair.accept();
  auto end = pair.client_end();
  end.inode = inode_of(pair.listener.get());  // as in another network namespace, where it is another socket's
  CHECK(diagnosed_owner(end).is(ENOSYS));
  end = pair.client_end();
  end.remote.port ^= 1;  // of which the kernel tells the listener, if anything
  CHECK(diagnosed_owner(end).is(ENOSYS));
  CHECK(diagnosed_owner({{}, {}, 0}).is(ENOSYS));
}

TEST_CASE("Owners are asked again and again", "[socket_owner]") {
  SocketOwners owners;
  REQUIRE(owners.can_tell());
  for (int i = 0; i < 20; ++i) {
    Pair pair;
    CHECK_FALSE(owners.peer_of(pair.client_end()));
    pair.accept();
    const auto owner = owners.peer_of(pair.client_end());
    REQUIRE(owner);
    CHECK(*owner == geteuid());
  }
}

TEST_CASE("Lines of the kernel's table", "[socket_owner]") {
  const auto v4 = row_of(
      "   3: 0200007F:1C20 0100007F:D2F4 01 00000000:00000000 02:000006F4 00000000   998        0 41237 2 "
      "00000000 20 4 1 10 -1");
  CHECK(to_string(v4.local) == "127.0.0.2:7200");
  CHECK(to_string(v4.remote) == "127.0.0.1:54004");
  CHECK(v4.owner == 998);
  CHECK(v4.inode == 41237);
  const auto mapped = row_of(
      "   0: 0000000000000000FFFF00000100007F:1C20 0000000000000000FFFF00000100007F:D2F4 01 "
      "00000000:00000000 00:00000000 00000000     0        0 7 1");
  CHECK(to_string(mapped.local) == "127.0.0.1:7200");
  const auto v6 = row_of(
      "   0: 00000000000000000000000001000000:1C20 00000000000000000000000001000000:D2F4 01 "
      "00000000:00000000 00:00000000 00000000 65534        0 7 1");
  CHECK(to_string(v6.local) == "[::1]:7200");
  CHECK(v6.owner == 65534);

  CHECK_FALSE(
      counts("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"));
  CHECK_FALSE(
      counts("   3: 0200007F:1C20 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 "
             "41237 1"));  // listens
  CHECK_FALSE(
      counts("   3: 0200007F:1C20 0100007F:D2F4 01 00000000:00000000 00:00000000 00000000     0        0 0 "
             "1"));  // not accepted
  CHECK_FALSE(counts("   3: 0200007F:1C20 0100007F:D2F4 06 00000000:00000000 00:00000000 00000000     0        0 5 1"));
  CHECK_FALSE(counts("   3: 0200007F:1C20 0100007F:D2F4 01 00000000:00000000 00:00000000 00000000"));
  CHECK_FALSE(counts("   3: 0200007F:1C20 0100007F: 01 00000000:00000000 00:00000000 00000000 0 0 5"));
  CHECK_FALSE(counts(""));
}
