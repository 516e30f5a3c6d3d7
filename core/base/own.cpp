#include "core/base/own.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace rsock::own {
namespace {

constexpr size_t kWordBits = 64, kPageWords = 512, kPageBits = kWordBits * kPageWords;
constexpr size_t kPages = (size_t{1} << 31) / kPageBits;
using Page = std::array<std::atomic<uint64_t>, kPageWords>;

constinit std::atomic<Page*> pages[kPages]{};
constinit std::atomic<size_t> used{0};  // no page from here on

constexpr uint64_t bit(size_t number) { return uint64_t{1} << number % kWordBits; }

Page* page_of(int fd) {
  return fd < 0 ? nullptr : pages[static_cast<size_t>(fd) / kPageBits].load(std::memory_order_acquire);
}

std::atomic<uint64_t>& word_of(Page& page, int fd) { return page[static_cast<size_t>(fd) / kWordBits % kPageWords]; }

Page& made_page(size_t index) {
  auto* fresh = new Page{};
  Page* there = nullptr;
  if (!pages[index].compare_exchange_strong(there, fresh, std::memory_order_acq_rel)) {
    delete fresh;
    return *there;
  }
  auto most = used.load(std::memory_order_relaxed);
  while (most <= index && !used.compare_exchange_weak(most, index + 1, std::memory_order_release)) {
  }
  return *fresh;
}

void lower(int fd) {
  auto least = lowest.load();
  while (fd < least && !lowest.compare_exchange_weak(least, fd)) {
  }
}

}  // namespace

thread_local constinit bool trusted = false;

// The bit comes before the look at `lowest`, and in forget() the new `lowest` before another look at the bits: of two
// that meet, one sees the other.
void keep(int fd) {
  if (fd < 0) return;
  auto* page = page_of(fd);
  word_of(page ? *page : made_page(static_cast<size_t>(fd) / kPageBits), fd).fetch_or(bit(static_cast<size_t>(fd)));
  lower(fd);
}

void forget(int fd) {
  auto* page = page_of(fd);
  if (!page) return;
  word_of(*page, fd).fetch_and(~bit(static_cast<size_t>(fd)));
  if (!lowest.compare_exchange_strong(fd, INT_MAX)) return;
  if (const int first = next(0); first >= 0) lower(first);
}

bool keeps(int fd) {
  auto* page = page_of(fd);
  return page && word_of(*page, fd).load(std::memory_order_relaxed) & bit(static_cast<size_t>(fd));
}

int next(int fd) {
  const auto end = used.load(std::memory_order_acquire) * kPageBits;
  auto at = static_cast<size_t>(fd < 0 ? 0 : fd);
  while (at < end) {
    auto* page = pages[at / kPageBits].load(std::memory_order_acquire);
    if (!page) {
      at = (at / kPageBits + 1) * kPageBits;
      continue;
    }
    // What is left of the word.
    const auto word = word_of(*page, static_cast<int>(at)).load(std::memory_order_relaxed) >> at % kWordBits;
    if (word) return static_cast<int>(at) + std::countr_zero(word);
    at = (at / kWordBits + 1) * kWordBits;
  }
  return -1;
}

}  // namespace rsock::own
