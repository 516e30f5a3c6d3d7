#pragma once
// The ends of a flow's two streams, while its bytes are in a lane or on the way there or back: what this
// end's program did, what the peer was told of it on the link, what the peer told, and the error that is
// left. A pure machine beside the one of the cutover (machine.hpp). On TCP the kernel knows all this by
// itself.
//
// This end. FIN comes behind the last byte, RESET at once, and nothing after it:
//
//   the program:  open ──close──▶ closed
//                   └────abort──▶ aborted      closed with bytes unread, or as SO_LINGER with 0
//   the peer is   nothing ──(write_shut) FIN──▶ ended ──(closed) FIN{closed}──▶ closed
//   told:           ├────────(closed) FIN{closed}──────────────────────────────────▲
//                   └─ nothing, ended, closed ──(aborted, or a byte that nobody reads) RESET──▶ reset
//
// The peer. `ended`: its bytes are counted, and it may still read. `closed`: it takes nothing any more:
//
//   open ──FIN──▶ ended ──FIN{closed}, reset, the end of TCP──▶ closed
//     └───────────FIN{closed}, reset, the end of TCP────────────▲
//
// The error: none ──▶ pending ──a call shows it──▶ shown: from then on reads give 0, writes EPIPE.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "core/base/result.hpp"

namespace rsock::flow {

class Ends {
 public:
  enum class Own : uint8_t { open, closed, aborted };
  enum class Told : uint8_t { nothing, ended, closed, reset };
  enum class Peer : uint8_t { open, ended, closed };
  enum class Failure : uint8_t { none, pending, shown };

  // ---- the program
  // As shutdown(2). ENOTCONN: there is no connection any more.
  Status shutdown(int how);
  void shut_write() { write_shut_ = true; }
  bool read_shut() const { return read_shut_; }
  bool write_shut() const { return write_shut_; }
  void close(bool abort) { own_ = abort ? Own::aborted : Own::closed; }
  bool closing() const { return own_ != Own::open; }
  bool aborts() const { return own_ == Own::aborted; }
  // Before a write: the error that it has to give. EPIPE also where the program has shut its stream and the
  // kernel does not say so.
  Status may_write(bool kernel_follows);
  // Behind the last byte: 0, or the error, which is taken. EAGAIN: more may come. `at_end`: all is read that
  // the peer sent.
  Result<size_t> read_end(bool at_end);
  int take_error();  // as SO_ERROR

  // ---- what the peer is told
  enum class Word : uint8_t { nothing, fin, fin_closed, reset };
  // What is to be said now, and counts as said. `all_sent`: no byte waits that belongs in front of an end.
  Word next_word(bool all_sent);
  Told told() const { return told_; }
  // A byte came that nobody will read: RESET is said.
  void tell_reset() { told_ = Told::reset; }
  // It knows that all is over here.
  bool told_all() const { return told_ == Told::closed || told_ == Told::reset; }
  bool ended_before_reset() const { return told_ == Told::reset && fin_told_; }

  // ---- what the peer tells
  // FIN, when so many bytes have `landed`. False if it may not say so: it has closed, said another end, or
  // this is elsewhere.
  bool fin(uint64_t total, bool closed, uint64_t landed);
  // Its stream ends by RST: reset() follows as soon as what is in front of that is there.
  void reset_comes() { reset_due_ = true; }
  bool reset_due() const { return reset_due_; }
  // The error that the program is to hear, as of RST in the kernel: an end that knew of the peer's FIN and
  // did not send its own learns of it by EPIPE, and one whose both directions had ended does not learn of it:
  // 0.
  int reset();
  // The end of TCP: it takes nothing any more.
  void peer_left() { peer_ = Peer::closed; }
  Peer peer() const { return peer_; }
  bool peer_closed() const { return peer_ == Peer::closed; }
  // How many bytes it sent in all, once it has ended its stream.
  std::optional<uint64_t> total() const { return total_; }
  // In the kernel: the state CLOSE.
  bool both_ended() const { return total_ && write_shut_; }
  // The program wrote to a peer that has closed: that is answered by RST.
  void write_past_end() { wrote_past_end_ = reset_due_ = true; }
  bool wrote_past_end() const { return wrote_past_end_; }
  bool take_wrote_past_end() { return std::exchange(wrote_past_end_, false); }

  // ---- the error
  // As in the kernel, a connection has one, which is told once. The link and TCP may both tell of it, and not
  // at one time.
  void fail(int error) {
    if (!failed()) error_ = error, failure_ = Failure::pending;
  }
  Failure failure() const { return failure_; }
  bool failed() const { return failure_ != Failure::none; }
  // The events of epoll that come of all this, the direction's own aside. `ended`: the peer's end may be seen
  // by now.
  uint32_t readiness(bool ended) const;

  // ---- back on TCP
  // What the peer said on the link is for the lane alone.
  void forget_peer();
  // The kernel knows the end by now, and serves it.
  void hand_back();
  bool shut_past_end() const { return shut_past_end_; }

 private:
  Own own_ = Own::open;
  bool read_shut_ = false, write_shut_ = false;
  Told told_ = Told::nothing;
  bool fin_told_ = false;
  Peer peer_ = Peer::open;
  std::optional<uint64_t> total_;
  bool reset_due_ = false;
  Failure failure_ = Failure::none;
  int error_ = 0;
  bool shut_past_end_ = false;   // the program shut down what was no connection any more
  bool wrote_past_end_ = false;  // the peer's kernel does not know yet
};

}  // namespace rsock::flow
