// stdio on connections.

#include <cstdio>

#include "../pair.hpp"

using namespace conformance;

namespace {

struct Stream {
  explicit Stream(FILE* opened) : file(opened) { REQUIRE(file != nullptr); }
  ~Stream() {
    if (file) fclose(file);
  }
  FILE* file;
};

std::string line_of(FILE* file) {
  char text[200];
  return fgets(text, sizeof text, file) ? text : "";
}

}  // namespace

TEST_CASE("fdopen: lines both ways", "[fdopen][tcp]") {
  auto pair = connected();
  Stream in(fdopen(pair.client.release(), "r+"));
  setvbuf(in.file, nullptr, _IOLBF, 1024);
  send_all(pair.server, "one\ntwo\n");
  CHECK(line_of(in.file) == "one\n");
  CHECK(line_of(in.file) == "two\n");
  CHECK(fprintf(in.file, "answer %d\n", 42) == 10);
  fflush(in.file);
  CHECK(receive(pair.server, 10) == "answer 42\n");
}

TEST_CASE("fdopen: bytes that were there before", "[fdopen][tcp]") {
  auto pair = connected();
  send_all(pair.client, "before\n");
  arrived(pair.server, 7);
  Stream in(fdopen(pair.server.release(), "r"));
  CHECK(line_of(in.file) == "before\n");
  send_all(pair.client, "after\n");
  CHECK(line_of(in.file) == "after\n");
}

TEST_CASE("fdopen: fclose ends the connection", "[fdopen][fclose][tcp]") {
  auto pair = connected();
  const int fd = pair.client.release();
  auto* out = fdopen(fd, "w");
  REQUIRE(out != nullptr);
  fputs("last", out);
  CHECK(fclose(out) == 0);
  CHECK(receive(pair.server, 100) == "last");
  CHECK_FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST_CASE("fdopen: on a copy, the other descriptor goes on", "[fdopen][dup][tcp]") {
  const auto pair = connected();
  {
    Stream in(fdopen(dup(pair.client), "r"));
    send_all(pair.server, "a line\n");
    CHECK(line_of(in.file) == "a line\n");
  }
  send_all(pair.client, "to");
  CHECK(receive(pair.server, 2) == "to");
  send_all(pair.server, "fro");
  CHECK(receive(pair.client, 3) == "fro");
}

TEST_CASE("fdopen: two streams for one connection, as servers of lines have", "[fdopen][dup][tcp]") {
  auto pair = connected();
  Stream out(fdopen(dup(pair.client), "w")), in(fdopen(pair.client.release(), "r"));
  for (int i = 0; i < 20; ++i) {
    fprintf(out.file, "line %d\n", i);
    fflush(out.file);
    const auto text = "line " + std::to_string(i) + "\n";
    CHECK(receive(pair.server, text.size()) == text);
    send_all(pair.server, text);
    CHECK(line_of(in.file) == text);
  }
}

TEST_CASE("fdopen: on a connection that no byte passed yet", "[fdopen][no-lane]") {
  auto pair = connected({.enter = false});
  Stream one(fdopen(pair.client.release(), "r+")), other(fdopen(pair.server.release(), "r+"));
  for (int i = 0; i < 50; ++i) {
    fputs("ping\n", one.file), fflush(one.file);
    CHECK(line_of(other.file) == "ping\n");
    fputs("pong\n", other.file), fflush(other.file);
    CHECK(line_of(one.file) == "pong\n");
  }
}

TEST_CASE("fdopen: errors", "[fdopen]") {
  const auto pair = connected();
  errno = 0;
  CHECK(fdopen(-1, "r") == nullptr);
  CHECK(errno == EBADF);
}

TEST_CASE("fdopen: a mode that there is not leaves the flow as it is", "[fdopen][tcp]") {
  const auto pair = connected();
  errno = 0;
  CHECK(fdopen(pair.client, "nonsense") == nullptr);
  CHECK(errno == EINVAL);
  send_all(pair.client, "on");
  CHECK(receive(pair.server, 2) == "on");
}

TEST_CASE("dprintf: in order with what send sent", "[dprintf][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "one ");
  CHECK(dprintf(pair.client, "%s ", "two") == 4);
  send_all(pair.client, "three");
  CHECK(receive(pair.server, 13) == "one two three");
}

TEST_CASE("dprintf: to the accepting end, and back by recv", "[dprintf][tcp]") {
  const auto pair = connected();
  CHECK(dprintf(pair.server, "%d\n", 7) == 2);
  CHECK(receive(pair.client, 2) == "7\n");
  send_all(pair.client, "so");
  CHECK(receive(pair.server, 2) == "so");
}

TEST_CASE("fileno: stdio reads what poll waits for", "[fdopen][poll][tcp]") {
  auto pair = connected();
  Stream in(fdopen(pair.client.release(), "r"));
  setvbuf(in.file, nullptr, _IONBF, 0);
  for (int i = 0; i < 5; ++i) {
    CHECK(polled(fileno(in.file), POLLIN) == 0);
    send_all(pair.server, "x");
    CHECK(awaited(fileno(in.file), POLLIN) == POLLIN);
    CHECK(fgetc(in.file) == 'x');
  }
}
