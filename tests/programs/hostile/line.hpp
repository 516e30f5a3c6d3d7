#pragma once
// One queue pair. Its memory: receives, staged messages, the ring that the victim writes to, and bytes that mean
// nothing.

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "core/wire/message.hpp"
#include "tests/programs/hostile/bytes.hpp"

namespace hostile {

namespace wire = rsock::wire;

constexpr uint32_t kReceives = 64;
constexpr uint32_t kRing = 16 << 10;
constexpr uint32_t kBlank = 64 << 10;  // memory to send from, for what has no meaning

class Line {
 public:
  enum class State { pending, refused, up, lost };
  State state = State::pending;
  rdma_cm_id* id = nullptr;
  Bytes privately;  // the private data to be sent
  Bytes received;   // with the answer

  Line();
  ~Line();

  // Makes the queue pair, once the device is known.
  void prepare();
  rdma_conn_param parameters() const;
  wire::RingPlace ring() const;
  // The queue pairs': this end's, and the peer's.
  std::array<uint32_t, 2> numbers() const;

  // Bytes that the victim's programs have written into rings of ours.
  size_t landed() const { return landed_; }
  // What the victim has sent by now. A completion in error: the link is lost.
  void poll();
  // The next message of that kind; those before it are forgotten.
  template <class Body>
  std::optional<Body> take() {
    for (; !inbox_.empty(); inbox_.pop_front())
      if (const auto* body = std::get_if<Body>(&inbox_.front().body)) {
        const auto found = *body;
        inbox_.pop_front();
        return found;
      }
    return {};
  }

  // `returned`: the true number of credits unless another is wanted.
  void say(const wire::Body& body, std::optional<uint32_t> returned = {});
  void raw(std::span<const uint8_t> bytes);
  void blank(uint32_t size);
  // Words into a ring, as data of that slot.
  void put(const wire::RingPlace& to, std::string_view words, uint32_t slot);
  void write(const wire::RingPlace& to, uint32_t size, uint32_t immediate,
             ibv_wr_opcode how = IBV_WR_RDMA_WRITE_WITH_IMM);

 private:
  uint64_t staged(std::span<const uint8_t> bytes);
  uint64_t address(size_t at) const { return reinterpret_cast<uintptr_t>(memory_.data() + at); }
  void post_receive(uint32_t buffer);
  void post(ibv_send_wr& request, uint64_t from, uint32_t size);

  Bytes memory_;
  ibv_cq* completions_ = nullptr;
  ibv_mr* region_ = nullptr;
  uint32_t sent_ = 0, outstanding_ = 0, received_ = 0;
  size_t landed_ = 0;
  std::deque<wire::Message> inbox_;
};

}  // namespace hostile
