#include "core/flow/unread.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "core/base/copy.hpp"

using namespace rsock;
using namespace rsock::flow;

namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

void handle(int, siginfo_t*, void* context) {
  if (!recover(context)) _exit(1);
}

struct Got {
  std::string text;
  size_t of_ring;
};
Got read(Unread& unread, size_t most, bool peek = false) {
  std::string text(most, 0);
  const iovec to{text.data(), text.size()};
  const auto took = unread.read({&to, 1}, peek);
  REQUIRE(took);
  text.resize(took->bytes);
  return {text, took->of_ring};
}

}  // namespace

TEST_CASE("what was left behind is read in order, and once", "[unread]") {
  Unread unread;
  CHECK(unread.size() == 0);
  CHECK(read(unread, 3).text.empty());
  unread.add(bytes("abc"));
  unread.add(bytes("def"));
  CHECK(unread.size() == 6);
  CHECK(read(unread, 2, true).text == "ab");
  CHECK(unread.size() == 6);
  CHECK(read(unread, 4).text == "abcd");
  unread.add(bytes("g"));
  CHECK(read(unread, 100).text == "efg");
  CHECK(unread.size() == 0);
  unread.add(bytes("h"));
  unread.clear();
  CHECK(unread.size() == 0);
  unread.add(bytes("i"));
  CHECK(read(unread, 100).text == "i");
}

TEST_CASE("bytes that came by TCP are told from those of a ring", "[unread]") {
  Unread unread;
  unread.add_raw(bytes("raw"));
  unread.add_raw(bytes("RAW"));
  unread.add(bytes("ring"));
  CHECK(read(unread, 8, true).of_ring == 2);
  CHECK(read(unread, 4).of_ring == 0);
  CHECK(read(unread, 4).of_ring == 2);
  CHECK(read(unread, 4).of_ring == 2);
  unread.add(bytes("x"));
  CHECK(read(unread, 1).of_ring == 1);
  unread.add_raw(bytes("y"));
  CHECK(read(unread, 1).of_ring == 0);
}

TEST_CASE("a place that cannot be written to takes nothing", "[unread]") {
  Unread unread;
  unread.add(bytes("abcdef"));
  auto* const bad = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char good[2];
  const iovec to[]{{good, 2}, {bad, 4096}};
  struct sigaction action {
  }, before;
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGSEGV, &action, &before) == 0);
  const auto taken = unread.read(to, false);
  REQUIRE(sigaction(SIGSEGV, &before, nullptr) == 0);
  CHECK(taken.is(EFAULT));
  CHECK(unread.size() == 6);
  munmap(bad, 4096);
  const iovec pieces[]{{good, 1}, {good + 1, 0}, {good + 1, 1}};
  CHECK(unread.read(pieces, false)->bytes == 2);
  CHECK(std::string(good, 2) == "ab");
}

TEST_CASE("bytes go into pieces from a place in them on", "[unread]") {
  char one[3] = {}, two[4] = {};
  const iovec to[]{{one, 3}, {two, 4}};
  CHECK(*scatter(bytes("xyz"), to, 2) == 3);
  CHECK(std::string(one, 3) == std::string("\0\0x", 3));
  CHECK(std::string(two, 2) == "yz");
  CHECK(*scatter(bytes("xyz"), to, 6) == 1);
  CHECK(*scatter(bytes("xyz"), to, 7) == 0);
}
