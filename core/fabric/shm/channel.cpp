#include "core/fabric/shm/channel.hpp"

#include <algorithm>
#include <utility>

namespace rsock::fabric::shm {
namespace {

constexpr int kBatch = 32;

// How many rings fit for certain into what the peer may have in the socket: it has the same defaults
// (net.core.wmem_default), and the kernel charges less than a page for a byte. Rings beyond the first few dozen would
// save nothing more.
int rings_that_fit(int socket) {
  constexpr int kMost = 32, kCharged = 4096;
  int room = 0;
  socklen_t size = sizeof room;
  if (!sys::getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &room, size)) return 1;
  return std::clamp(room / kCharged, 1, kMost);
}

}  // namespace

Channel::Channel(Hub& hub, PinnedBudget& budget, uint64_t number, Segment own, Segment peer, ExposedFd bell,
                 uint32_t called, uid_t user)
    : hub_(hub),
      number_(number),
      called_(called),
      user_(user),
      own_(std::move(own)),
      peer_(std::move(peer)),
      bell_(std::move(bell)),
      most_unheard_(rings_that_fit(bell_.get())),
      reader_(own_.queue()),
      writer_(peer_.queue()),
      rings_(
          budget,
          {.map =
               [this](size_t size) {
                 auto* memory = own_.rings(next_ring_, size);
                 if (memory) next_ring_ += size;
                 return memory;
               },
           .unmap = [](std::byte*, size_t) {}},
          // The peer knows our memory by its offset in the segment.
          [this](flow::Block& chunk) { return chunk.bias = -reinterpret_cast<uintptr_t>(own_.base()), true; },
          [](const flow::Block&) {}) {}

Channel::~Channel() { hub_.strike(*this); }

ExposedFd Channel::hand_back() {
  hub_.strike(*this);
  return std::move(bell_);
}

// What came before is found at the next look.
void Channel::attach(Sink& sink) {
  sink_ = &sink;
  hub_.rouse(*this);
}

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
  seat.in_vain = 0;  // an answer is likely
  if (!seat.awake) hub_.rouse(*this);
  if (!writer_.must_wake()) return;
  const uint8_t ring = 1;
  const auto rung = sys::send(bell_.get(), &ring, sizeof ring, MSG_DONTWAIT | MSG_NOSIGNAL);
  // EAGAIN: there are rings that it has not heard yet. A ring that is lost for want of memory would not come again.
  if (!rung && !rung.is(EAGAIN)) hang_up();
}

bool Channel::hear() {
  if (++unheard_ < most_unheard_) return true;
  unheard_ = 0;
  std::array<uint8_t, 64> rings;
  const auto heard = receive_bare(bell_.get(), rings);
  return heard ? *heard > 0 : heard.is(EAGAIN) || heard.is(EINTR);
}

void Channel::hang_up() { (void)sys::shutdown(bell_.get(), SHUT_RDWR); }

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
