#pragma once
// Registered memory of one link for one use, handed out in powers of two. Memory comes in chunks with mappings of their
// own: never in the heap, not in core dumps, not inherited by children. Chunks live as long as the arena. Engine's
// lock, once others know of the link and as long as they do.

#include <atomic>
#include <functional>
#include <vector>

#include "core/flow/rings.hpp"

namespace rsock::fabric {

// Bytes that all arenas together hold, against the option max_pinned. Any thread.
class PinnedBudget {
 public:
  explicit PinnedBudget(uint64_t most) : most_(most) {}
  bool take(uint64_t bytes);
  void give_back(uint64_t bytes) { used_ -= bytes; }

 private:
  const uint64_t most_;
  std::atomic<uint64_t> used_{0};
};

// A private anonymous mapping with the properties above; nullptr if there is no memory.
std::byte* map_private(size_t size);
void unmap_private(std::byte* base, size_t size);

class Arena {
 public:
  // Registers a chunk: sets the two keys. False when a limit was reached.
  using Register = std::function<bool(flow::Block& chunk)>;
  using Unregister = std::function<void(const flow::Block& chunk)>;
  // Where chunks come from, by their size; nullptr if there is no more.
  struct Source {
    std::function<std::byte*(size_t)> map = map_private;
    std::function<void(std::byte*, size_t)> unmap = unmap_private;
  };

  Arena(PinnedBudget& budget, Register add, Unregister remove);
  Arena(PinnedBudget& budget, Source source, Register add, Unregister remove);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  flow::Block allocate(uint32_t size);  // an empty block when a limit was reached
  void release(flow::Block block);
  uint64_t size() const;  // bytes, given out or not

 private:
  bool add_chunk(uint32_t at_least);

  PinnedBudget& budget_;
  Source source_;
  Register register_;
  Unregister unregister_;
  std::vector<flow::Block> chunks_;
  std::vector<std::vector<flow::Block>> free_;  // by log2 of the size
};

}  // namespace rsock::fabric
