#pragma once
// What an operator's command asks of a process, and what the process answers: one packet each, on the control socket.
//
// A request, 10 bytes:                       An answer, 38 bytes and what follows:
//   0  4  magic "rsco"                         0  4  magic "rsco"
//   4  2  version                              4  2  version
//   6  1  order                                6  1  0, or 1: not done, the complaint says why
//   7  1  zero                                 7  1  zero
//   8  2  port at either end; 0: all flows     8  4  process id, as the process sees itself
//  10  8  hand_over alone: the socket
//                                             12  4  flows that the order has set moving
//                                             16  20 flows by where they are: tcp, rdma, shm, entering, leaving (4 each)
//                                             36  2  how many reasons follow: key (1 + n), flows (4) each
//                                                    then the program's name (1 + n) and the complaint (2 + n)
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
// The name of a control socket, in the abstract space of the network namespace: this, then 16 hexadecimal digits, random.
inline constexpr char kControlPrefix[] = "rsock-control-";

enum class Order : uint8_t {
  tell,    // where the flows are
  leave,   // flows go back to TCP, and stay there until `enter`
  enter,   // flows may enter a lane again
  reload,  // the rules are read again
  hand_over,  // another process has the descriptor: its flow goes back to TCP for good
};

struct ControlRequest {
  Order order = Order::tell;
  uint16_t port = 0;
  uint64_t socket = 0;  // SO_COOKIE, of hand_over
};

struct FlowCounts {
  uint32_t tcp = 0, rdma = 0, shm = 0, entering = 0, leaving = 0;
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

std::vector<uint8_t> encode(const ControlRequest& request);
std::optional<ControlRequest> decode_control_request(std::span<const uint8_t> bytes);
// Texts that are too long are cut.
std::vector<uint8_t> encode(const ControlAnswer& answer);
std::optional<ControlAnswer> decode_control_answer(std::span<const uint8_t> bytes);

}  // namespace rsock::wire
