#include "core/fabric/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "core/base/footprint.hpp"
#include "core/base/kernel.hpp"

namespace rsock::fabric {
namespace {

constexpr uint32_t kLargestChunk = 4 << 20;

size_t order(uint32_t size) { return static_cast<size_t>(std::bit_width(size) - 1); }

}  // namespace

bool PinnedBudget::take(uint64_t bytes) {
  for (auto used = used_.load(); bytes <= most_ - used;)
    if (used_.compare_exchange_weak(used, used + bytes)) return true;
  return false;
}

std::byte* map_private(size_t size) {
  const auto base = sys::map(size, MAP_PRIVATE | MAP_ANONYMOUS);
  if (!base) return nullptr;
  (void)sys::advise(*base, size, MADV_DONTFORK);
  (void)sys::advise(*base, size, MADV_DONTDUMP);
  return static_cast<std::byte*>(*base);
}

void unmap_private(std::byte* base, size_t size) { sys::unmap(base, size); }

Arena::Arena(PinnedBudget& budget, Register add, Unregister remove)
    : Arena(budget, Source{}, std::move(add), std::move(remove)) {}

Arena::Arena(PinnedBudget& budget, Source source, Register add, Unregister remove)
    : budget_(budget),
      source_(std::move(source)),
      register_(std::move(add)),
      unregister_(std::move(remove)),
      free_(32) {}

Arena::~Arena() {
  for (const auto& chunk : chunks_) {
    unregister_(chunk);
    source_.unmap(chunk.base, chunk.size);
    budget_.give_back(chunk.size);
  }
}

bool Arena::add_chunk(uint32_t at_least) {
  const auto wanted = chunks_.empty() ? kFirstChunk : std::min(chunks_.back().size * 2, kLargestChunk);
  const auto size = std::max(at_least, wanted);
  if (!budget_.take(size)) return false;
  flow::Block chunk{.base = source_.map(size), .size = size};
  if (!chunk || !register_(chunk)) {
    if (chunk) source_.unmap(chunk.base, size);
    budget_.give_back(size);
    return false;
  }
  chunks_.push_back(chunk);
  free_[order(size)].push_back(chunk);
  return true;
}

flow::Block Arena::allocate(uint32_t size) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (size_t at = order(size); at < free_.size(); ++at) {
      if (free_[at].empty()) continue;
      auto block = free_[at].back();
      free_[at].pop_back();
      while (block.size > size) {  // the upper half stays free, at each split
        block.size /= 2;
        auto upper = block;
        upper.base += block.size;
        free_[order(block.size)].push_back(upper);
      }
      return block;
    }
    if (!add_chunk(size)) break;
  }
  return {};
}

uint64_t Arena::size() const {
  uint64_t sum = 0;
  for (const auto& chunk : chunks_) sum += chunk.size;
  return sum;
}

void Arena::release(flow::Block block) {
  if (block) free_[order(block.size)].push_back(block);
}

}  // namespace rsock::fabric
