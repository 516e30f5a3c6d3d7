#include "core/base/reserve.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "core/base/clock.hpp"

namespace rsock::reserve {
namespace {

constexpr auto kShortage = milliseconds(1000);

constinit std::atomic<int> out{0};             // cells that are in use
constinit std::atomic<Duration::rep> last{0};  // when one was taken

// Until it is used it costs addresses, and no memory.
template <size_t size, size_t count>
alignas(64) std::byte cells[count][size];

template <size_t size, size_t count>
class Cells {
  static_assert(count % 64 == 0 || count < 64);

 public:
  void* take() {
    for (size_t word = 0; word < kWords; ++word)
      for (auto used = used_[word].load(std::memory_order_relaxed); used != kFull;) {
        const auto free = static_cast<size_t>(std::countr_one(used));
        if (used_[word].compare_exchange_weak(used, used | uint64_t{1} << free, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
          out.fetch_add(1, std::memory_order_relaxed);
          return cells<size, count>[word * 64 + free];
        }
      }
    return nullptr;
  }
  bool give_back(void* memory) {
    const auto offset = reinterpret_cast<uintptr_t>(memory) - reinterpret_cast<uintptr_t>(cells<size, count>);
    if (offset >= size * count) return false;
    used_[offset / size / 64].fetch_and(~(uint64_t{1} << offset / size % 64), std::memory_order_release);
    out.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }

 private:
  static constexpr size_t kWords = (count + 63) / 64;
  static constexpr uint64_t kFull = count % 64 ? (uint64_t{1} << count % 64) - 1 : ~uint64_t{0};  // a word

  std::array<std::atomic<uint64_t>, kWords> used_;
};

constinit Cells<128, 2048> small{};
constinit Cells<1 << 10, 512> medium{};
constinit Cells<16 << 10, 32> large{};
constinit Cells<128 << 10, 8> huge{};
constinit Cells<2 << 20, 2> rings{};  // what a flow's rings hold when it leaves its lane

}  // namespace

void* take(size_t size) {
  void* found = nullptr;
  const auto look_in = [&]<size_t most, size_t count>(Cells<most, count>& from) {
    if (!found && size <= most) found = from.take();
  };
  last.store(now().time_since_epoch().count(), std::memory_order_relaxed);
  look_in(small), look_in(medium), look_in(large), look_in(huge), look_in(rings);
  return found;
}

bool give_back(void* memory) {
  if (out.load(std::memory_order_relaxed) == 0) return false;
  return small.give_back(memory) || medium.give_back(memory) || large.give_back(memory) || huge.give_back(memory) ||
         rings.give_back(memory);
}

bool short_of_memory() {
  const auto then = last.load(std::memory_order_relaxed);
  return then != 0 && now() - Time(Duration(then)) < kShortage;
}

}  // namespace rsock::reserve
