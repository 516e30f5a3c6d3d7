#pragma once
// What an operator's command asks of a process, and what the process answers: one packet each, on the control socket.
//
// A request, 10 bytes or 18:                 An answer, 38 bytes and what follows:
//   0  4  magic "rsco"                         0  4  magic "rsco"
//   4  2  version                              4  2  version
//   6  1  order                                6  1  0, or 1: not done, the complaint says why
//   7  1  zero                                 7  1  zero
//   8  2  port at either end; 0: all flows     8  4  process id, as the process sees itself
//  10  8  of hand_over, pages and capture: a number
//                                             12  4  flows that the order has set moving
//                                             16  20 flows by where they are: tcp, rdma, shm, entering, leaving (4
//                                             each) 36  2  how many reasons follow: key (1 + n), flows (4) each
//                                                    then the program's name (1 + n) and the complaint (2 + n)
//
// What may be long (flows, links) is asked for a page at a time. A page, 18 bytes and what follows:
//   0  4  magic "rsco"
//   4  2  version
//   6  2  zero
//   8  8  the number by which the next page is asked for; 0: this is the last
//  16  2  length of the text (2 + n): lines of JSON, an object each
//
// Both sides read strictly: a packet of another length, version or order is refused as a whole.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rsock::wire {

inline constexpr uint32_t kControlMagic = 0x7273636f;
inline constexpr uint16_t kControlVersion = 1;
inline constexpr size_t kControlRequestSize = 10, kControlRequestMost = 18;
inline constexpr size_t kControlAnswerMost = 16384;
inline constexpr size_t kControlReasonsMost = 64;
inline constexpr size_t kControlPageHead = 18, kControlTextMost = kControlAnswerMost - kControlPageHead;
// The name of a control socket, in the abstract space of the network namespace: this, then 16 hexadecimal digits,
// random.
inline constexpr char kControlPrefix[] = "rsock-control-";

enum class Order : uint8_t {
  tell,        // where the flows are
  leave,       // flows go back to TCP, and stay there until `enter`
  enter,       // flows may enter a lane again
  reload,      // the rules are read again
  hand_over,   // another process has the descriptor: its flow goes back to TCP for good
  flows,       // a page: each flow
  links,       // a page: each link
  statistics,  // a page: the counters, as they are written at the end
  capture,     // root's alone: a ring of `number` bytes comes with the answer (capture.hpp); it lasts as long as this
               // connection
};
inline constexpr bool asks_for_page(Order order) { return order >= Order::flows && order <= Order::statistics; }
inline constexpr bool has_number(Order order) { return order >= Order::hand_over; }

struct ControlRequest {
  Order order = Order::tell;
  uint16_t port = 0;
  uint64_t number =
      0;  // hand_over: SO_COOKIE of the socket; a page: what is told begins behind it; capture: the size of its ring
};

struct FlowCounts {
  uint32_t tcp = 0, rdma = 0, shm = 0, entering = 0, leaving = 0;
  uint32_t off_tcp() const { return rdma + shm + entering + leaving; }
};

struct ControlAnswer {
  bool refused = false;
  uint32_t process = 0;
  uint32_t moved = 0;
  FlowCounts flows;  // of the port that was asked about
  struct Stay {
    std::string reason;
    uint32_t flows = 0;
  };
  std::vector<Stay> stay;  // flows that are on TCP for good, by reason
  std::string program;
  std::string complaint;  // lines
};

struct ControlPage {
  uint64_t next = 0;
  std::string text;  // at most kControlTextMost
};

std::vector<uint8_t> encode(const ControlRequest& request);
std::optional<ControlRequest> decode_control_request(std::span<const uint8_t> bytes);
// Texts that are too long are cut.
std::vector<uint8_t> encode(const ControlAnswer& answer);
std::optional<ControlAnswer> decode_control_answer(std::span<const uint8_t> bytes);
std::vector<uint8_t> encode(const ControlPage& page);
std::optional<ControlPage> decode_control_page(std::span<const uint8_t> bytes);

}  // namespace rsock::wire
