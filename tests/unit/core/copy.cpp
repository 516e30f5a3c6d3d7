#include "core/base/copy.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

using namespace rsock;

extern "C" {
extern size_t rsock_copy_by_string;
extern bool rsock_copy_by_avx;
}

namespace {

constexpr size_t kPage = 4096, kRoom = 2 * kPage;

// Each way that the processor has.
template <class Do>
void in_every_way(Do what) {
  const auto by_string = rsock_copy_by_string;
  const bool by_avx = rsock_copy_by_avx;
  for (const bool avx : {false, true})
    for (const size_t least : {size_t{128}, SIZE_MAX}) {
      rsock_copy_by_avx = avx && by_avx;
      rsock_copy_by_string = least;
      CAPTURE(rsock_copy_by_avx, least);
      what();
    }
  rsock_copy_by_string = by_string, rsock_copy_by_avx = by_avx;
}

void handle(int, siginfo_t*, void* context) {
  if (!recover(context)) _exit(1);
}

class Recovering {
 public:
  Recovering() {
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~Recovering() { sigaction(SIGSEGV, &before_, nullptr); }

 private:
  struct sigaction before_;
};

// Room that ends where there is no memory, and begins so.
class Fenced {
 public:
  Fenced()
      : all_(static_cast<unsigned char*>(
            mmap(nullptr, kRoom + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(all_ != MAP_FAILED);
    REQUIRE(mprotect(begin(), kRoom, PROT_READ | PROT_WRITE) == 0);
  }
  ~Fenced() { munmap(all_, kRoom + 2 * kPage); }
  unsigned char* begin() const { return all_ + kPage; }
  unsigned char* end() const { return begin() + kRoom; }

 private:
  unsigned char* all_;
};

std::vector<size_t> sizes() {
  std::vector<size_t> all;
  for (size_t size = 0; size <= 700; ++size) all.push_back(size);
  for (const size_t size : {1000, 1023, 1024, 1025, 2047, 2048, 2049, 4000, 4096}) all.push_back(size);
  return all;
}

}  // namespace

TEST_CASE("copy: every byte and no other, of any size, from and to any place", "[copy]") {
  std::vector<unsigned char> from(5000), to(5000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<unsigned char>(i * 31 + i / 256 + 1);
  in_every_way([&] {
    for (const auto size : sizes())
      for (const auto& [in, out] : {std::pair{0, 0}, {1, 0}, {0, 1}, {15, 16}, {31, 33}, {63, 7}}) {
        std::fill(to.begin(), to.end(), 0);
        const auto* const begin = from.data() + in;
        auto* const at = to.data() + 100 + out;
        const bool copied = copy(at, begin, size) && std::equal(begin, begin + size, at) &&
                            std::all_of(to.data(), at, [](auto byte) { return byte == 0; }) &&
                            std::all_of(at + size, to.data() + to.size(), [](auto byte) { return byte == 0; });
        if (!copied) FAIL("size " << size << ", from " << in << " to " << out);
      }
  });
}

TEST_CASE("copy: false where any byte is not there, and nothing is written beyond what was asked for", "[copy]") {
  const Fenced from, to;
  const Recovering here;
  in_every_way([&] {
    for (const auto size : sizes()) {
      if (size == 0) continue;
      bool right = copy(to.end() - size, from.end() - size, size);
      for (const size_t beyond : {size_t{1}, size / 2 + 1, size}) {
        right = right && !copy(to.begin(), from.end() - size + beyond, size) &&
                !copy(to.end() - size + beyond, from.begin(), size);
        right =
            right && !copy(to.begin(), from.begin() - beyond, size) && !copy(to.begin() - beyond, from.begin(), size);
      }
      if (!right) FAIL("size " << size);
    }
  });
  CHECK(copy(nullptr, nullptr, 0));
  CHECK(word_at(from.end()) == 0);
  std::memset(from.end() - 8, 1, 8);
  CHECK(word_at(from.end() - 8) == 0x0101010101010101);
}
