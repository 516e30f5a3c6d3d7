#include "core/flow/held.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "core/base/copy.hpp"
#include "core/flow/rings.hpp"

using namespace rsock;
using namespace rsock::flow;

namespace {

std::string text(const HeldBytes& held) {
  return {reinterpret_cast<const char*>(held.bytes().data()), held.bytes().size()};
}

void handle(int, siginfo_t*, void* context) {
  if (!recover(context)) _exit(1);
}

}  // namespace

TEST_CASE("what is written in a hold is kept, up to so many bytes", "[held]") {
  char one[] = "abcdef", two[] = "", three[] = "ghi";
  const iovec pieces[] = {{one, 6}, {two, 0}, {three, 3}};
  HeldBytes held;
  CHECK(held.empty());
  CHECK(held.room() == 0);
  CHECK(held.take(pieces, 0).is(EAGAIN));  // it has not begun
  held.begin(8);
  CHECK(held.room() == 8);
  CHECK(*held.take({pieces, 1}, 2) == 4);
  CHECK(text(held) == "cdef");
  std::memset(one, 'x', 6);  // the program's memory is its own again
  CHECK(text(held) == "cdef");
  CHECK(held.room() == 4);
  CHECK(*held.take(pieces, 5) == 4);  // across pieces
  CHECK(text(held) == "cdefxghi");
  CHECK(held.take(pieces, 0).is(EAGAIN));
  held.begin(8);
  CHECK(*held.take({pieces, 1}, 0) == 6);
  CHECK(held.roomy());
  CHECK(*held.take({pieces, 1}, 5) == 1);
  CHECK_FALSE(held.roomy());
  CHECK(held.take({pieces, 1}, 4).is(EAGAIN));  // a small record is kept whole, or not at all
  CHECK(*held.take({pieces, 1}, 5) == 1);
  held.clear();
  CHECK(held.empty());
  held.begin(3);
  CHECK(*held.take(pieces, 6) == 3);
  CHECK(text(held) == "ghi");
  held.begin(3);  // of another hold
  CHECK(held.empty());
  CHECK(held.room() == 3);
}

// As the kernel, and the ring: whole pieces in front of a bad byte are taken, the one with it is not.
TEST_CASE("a bad byte in a hold costs its piece, and is an error if that is the first", "[held]") {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto* const pages =
      static_cast<char*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + page, page, PROT_NONE) == 0);
  std::memset(pages, 'p', page);
  const size_t there = GENERATE(size_t{1}, size_t{100}, size_t{2048});
  std::string good(kPiece + 3, 'g');
  const iovec pieces[] = {{good.data(), good.size()}, {pages + page - there, there + 1}};
  HeldBytes held;
  held.begin(1 << 20);
  struct sigaction action {
  }, before;
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGSEGV, &action, &before) == 0);
  CHECK(held.take({pieces + 1, 1}, 0).is(EFAULT));
  CHECK(held.empty());
  const auto taken = held.take(pieces, 0);
  REQUIRE(sigaction(SIGSEGV, &before, nullptr) == 0);
  REQUIRE(taken);
  CHECK(*taken == kPiece);
  CHECK(text(held) == good.substr(0, kPiece));
  CHECK(*held.take({pieces, 1}, kPiece) == 3);
  CHECK(text(held) == good);
  REQUIRE(munmap(pages, 2 * page) == 0);
}
