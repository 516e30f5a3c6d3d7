#pragma once
// What the library (librdmacm.so.1, in the process of a program) and the device (a process of its own) tell
// each other.
//
//   line      a unix socket of packets, one for each event channel and one for each context: requests go up,
//   events of the
//             connection manager come down. It is the descriptor that rdma-core would have open for the same,
//             so that there is none more. What it stands for ends with it: with the last copy of the
//             descriptor.
//   answer    each request has one, in a page of memory that both ends map: what is in the socket is events
//   alone, and the
//             descriptor is readable only for those.
//   queues    work requests and completions are in memory that both ends map. The bell, a packet of a single
//   byte, tells the device
//             that there is something to do.
//
// Both ends come from one build, so that structures travel as they are.

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace fabric {

enum class Verb : uint32_t {
  // The first of a line, with the page of its answers. A context's brings the end of async_fd to write to,
  // too, and
  // the memory of the process, if that may open it.
  open_channel,
  open_context,
  // Of a channel. `handle` is the identifier's.
  create_id,
  destroy_id,
  bind,
  listen,
  resolve_address,
  resolve_route,
  connect,
  establish,
  accept,
  reject,
  disconnect,
  // Of a context.
  create_completion_channel,
  destroy_completion_channel,
  create_domain,
  destroy_domain,
  create_region,
  destroy_region,
  create_queue,
  destroy_queue,
  create_queue_pair,
  destroy_queue_pair,
  query_queue_pair,
};

// What may be refused, and may take its time.
constexpr bool makes(Verb verb) {
  switch (verb) {
    case Verb::open_context:
    case Verb::create_id:
    case Verb::bind:
    case Verb::listen:
    case Verb::resolve_address:
    case Verb::resolve_route:
    case Verb::connect:
    case Verb::accept:
    case Verb::create_completion_channel:
    case Verb::create_domain:
    case Verb::create_region:
    case Verb::create_queue:
    case Verb::create_queue_pair: return true;
    default: return false;
  }
}
constexpr bool destroys(Verb verb) {
  return verb == Verb::destroy_id || verb == Verb::destroy_queue || verb == Verb::destroy_queue_pair;
}

// As much as the connection manager carries for RDMA_PS_TCP.
constexpr size_t kRequestData = 56, kAcceptData = 196, kRejectData = 148;

struct PrivateData {
  uint32_t size = 0;
  std::array<uint8_t, kAcceptData> bytes{};
};

struct Request {
  Verb verb{};
  uint32_t number = 0;  // of this request, in its line
  uint64_t handle = 0;  // what it is about
  uint64_t domain = 0;  // protection domain; of an identifier: its network, and whether the destination is of this host
  uint64_t address = 0;  // of memory; of an identifier: its port space, or the number of its queue pair
  uint64_t size = 0;     // of memory, of a queue; backlog
  uint64_t queues[2]{};  // for completions of sends, and of receives; of a queue: its completion channel, or 0
  uint32_t access = 0;
  uint32_t sends = 0, receives = 0, largest_inline = 0;
  sockaddr_storage source{}, destination{};
  PrivateData data;
};

struct Answer {
  int32_t error = 0;
  uint32_t number = 0;  // of a queue pair; of the peer's
  uint64_t handle = 0;
  uint32_t local_key = 0, remote_key = 0;
  uint32_t largest_inline = 0;
  uint32_t left = 0;  // events that were sent for an identifier which is no more
  sockaddr_storage source{};
};

struct AnswerPage {
  std::atomic<uint32_t> number{0};  // of the last request that is answered; a futex
  std::atomic<uint32_t> rung{0};    // a bell is on its way
  Answer answer;
};

// From a channel's line.
struct CmEvent {
  int32_t type = 0, status = 0;
  uint64_t id = 0;
  uint64_t made = 0;  // by a request: the identifier of the connection; then `id` is the listener's
  sockaddr_storage source{}, destination{};
  PrivateData data;
};

// From async_fd: `handle` of a queue pair or a queue, or the number of a port.
struct AsyncEvent {
  uint32_t type = 0;
  uint32_t reserved = 0;
  uint64_t handle = 0;
};

// ---- queues. Positions count for ever; their place is the remainder. One writes `tail`, the other `head`.

struct Completion {
  uint64_t work = 0;
  uint32_t status = 0, opcode = 0, bytes = 0, immediate = 0, flags = 0;
  uint32_t queue_pair = 0, peer = 0;
  uint32_t position = 0;  // of the work request in its queue
  bool is_send = false;
};

// With its entries behind it.
struct alignas(Completion) CompletionQueue {
  std::atomic<uint32_t> head{0}, tail{0};
  std::atomic<uint32_t> armed{0};
  uint32_t size = 0;  // a power of two

  Completion& at(uint32_t position) { return reinterpret_cast<Completion*>(this + 1)[position & (size - 1)]; }
  static constexpr size_t bytes(uint32_t size) { return sizeof(CompletionQueue) + size * sizeof(Completion); }
};

constexpr uint32_t kMostPieces = 4, kMostInline = 256;

struct Piece {
  uint64_t address = 0;
  uint32_t length = 0, key = 0;
};

struct SendWork {
  uint64_t work = 0;
  uint32_t opcode = 0, flags = 0, immediate = 0, key = 0;
  uint64_t remote = 0;
  uint32_t count = 0;  // of pieces; 0 and bytes: they are here
  uint32_t inline_bytes = 0;
  Piece pieces[kMostPieces];
  uint8_t bytes[kMostInline];
};

struct ReceiveWork {
  uint64_t work = 0;
  uint32_t count = 0, reserved = 0;
  Piece pieces[kMostPieces];
};

// With its entries behind it: those for sends, then those for receives.
struct alignas(SendWork) WorkQueues {
  std::atomic<uint32_t> sent{0}, received{0};  // tails
  std::atomic<uint32_t> starves{0};            // the device waits for a receive: it wants the bell
  uint32_t sends = 0, receives = 0;            // sizes, powers of two

  SendWork& send(uint32_t position) { return reinterpret_cast<SendWork*>(this + 1)[position & (sends - 1)]; }
  ReceiveWork& receive(uint32_t position) {
    return reinterpret_cast<ReceiveWork*>(&send(0) + sends)[position & (receives - 1)];
  }
  static constexpr size_t bytes(uint32_t sends, uint32_t receives) {
    return sizeof(WorkQueues) + sends * sizeof(SendWork) + receives * sizeof(ReceiveWork);
  }
};

}  // namespace fabric
