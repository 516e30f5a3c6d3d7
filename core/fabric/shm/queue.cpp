#include "core/fabric/shm/queue.hpp"

#include <cstring>

namespace rsock::fabric::shm {

void QueueWriter::publish(Entry& entry, Posted kind, uint32_t length, uint32_t immediate) {
  entry.kind.store(static_cast<uint32_t>(kind), std::memory_order_relaxed);
  entry.length.store(length, std::memory_order_relaxed);
  entry.immediate.store(immediate, std::memory_order_relaxed);
  entry.stamp.store(++sent_, std::memory_order_release);
}

void QueueWriter::post_data(uint32_t immediate, uint32_t length) { publish(next(), Posted::data, length, immediate); }

void QueueWriter::post_message(std::span<const uint8_t> bytes) {
  auto& entry = next();
  auto* to = bytes.size() <= kInlineMessage ? entry.message.data() : memory_.bodies[(sent_ + 1) % kDepth].data();
  std::memcpy(to, bytes.data(), bytes.size());
  publish(entry, Posted::message, static_cast<uint32_t>(bytes.size()), 0);
}

// The other half of Dekker's protocol: each side writes its own word, fences, and reads the other's. So either we see
// that the receiver sleeps, or its last look before sleeping sees what was posted.
bool QueueWriter::must_wake() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (memory_.sleeping.load(std::memory_order_relaxed) == 0) return false;
  return memory_.sleeping.exchange(0, std::memory_order_relaxed) != 0;
}

QueueReader::Item QueueReader::take(std::span<uint8_t, wire::kMessageMax> message) {
  const auto expected = taken_ + 1;
  auto& entry = memory_.entries[expected % kDepth];
  const auto stamp = entry.stamp.load(std::memory_order_acquire);
  if (stamp != expected) {
    const auto before = expected <= kDepth && stamp == 0;
    return {before || stamp == expected - kDepth ? Posted::nothing : Posted::fault};
  }
  const auto kind = entry.kind.load(std::memory_order_relaxed);
  const auto length = entry.length.load(std::memory_order_relaxed);
  taken_ = expected;
  if (kind == static_cast<uint32_t>(Posted::data))
    return {Posted::data, length, entry.immediate.load(std::memory_order_relaxed)};
  if (kind != static_cast<uint32_t>(Posted::message) || length > wire::kMessageMax) return {Posted::fault};
  const auto* from = length <= kInlineMessage ? entry.message.data() : memory_.bodies[expected % kDepth].data();
  std::memcpy(message.data(), from, length);
  // What is parsed is the copy: the compiler may not look at the peer's memory again.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return {Posted::message, length};
}

}  // namespace rsock::fabric::shm
