#include "core/fabric/shm/channel.hpp"

#include <utility>

namespace rsock::fabric::shm {
namespace {

constexpr int kBatch = 32;

}  // namespace

Channel::Channel(Hub& hub, PinnedBudget& budget, uint64_t number, Segment own, Half peer)
    : hub_(hub),
      number_(number),
      own_(std::move(own)),
      peer_(std::move(peer.segment)),
      peer_bell_(std::move(peer.bell)),
      reader_(own_.queue()),
      writer_(peer_.queue()),
      rings_(budget, {.map =
                          [this](size_t size) {
                            auto* memory = own_.rings(next_ring_, size);
                            if (memory) next_ring_ += size;
                            return memory;
                          },
                      .unmap = [](std::byte*, size_t) {}},
             // The peer knows our memory by its offset in the segment.
             [this](flow::Block& chunk) { return chunk.bias = -reinterpret_cast<uintptr_t>(own_.base()), true; },
             [](const flow::Block&) {}) {
  hub_.enlist(*this);
}

Channel::~Channel() { hub_.strike(*this); }

bool Channel::post_write(const flow::TxRing::Write& write, uint32_t immediate, bool) {
  writer_.post_data(immediate, write.length);
  wake();
  return true;
}

bool Channel::post_message(std::span<const uint8_t> bytes, bool) {
  writer_.post_message(bytes);
  wake();
  return true;
}

void Channel::wake() {
  if (!writer_.must_wake()) return;
  const uint64_t one = 1;
  (void)sys::write(peer_bell_.get(), &one, sizeof one);
}

Result<flow::Block> Channel::allocate(uint32_t size) {
  const auto ring = rings_.allocate(size);
  if (!ring) return Errno{ENOMEM};
  return ring;
}

Result<flow::Block> Channel::mirror(const wire::RingPlace& place) {
  auto* memory = place.key == 0 ? peer_.rings(place.address, place.size) : nullptr;
  if (!memory) return Errno{EPROTO};
  return flow::Block{.base = memory, .size = place.size};
}

int Channel::take() {
  std::array<uint8_t, wire::kMessageMax> message;
  for (int taken = 0; taken < kBatch; ++taken) {
    if (!sink_) return taken;
    const auto item = reader_.take(message);
    switch (item.kind) {
      case Posted::nothing: return taken;
      case Posted::data: sink_->data_landed(item.immediate, item.length); break;
      case Posted::message: sink_->message_landed({message.data(), item.length}); break;
      case Posted::fault: return sink_->connection_failed(), taken + 1;
    }
  }
  return kBatch;
}

}  // namespace rsock::fabric::shm
