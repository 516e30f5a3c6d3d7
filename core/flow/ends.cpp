#include "core/flow/ends.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

namespace rsock::flow {

Status Ends::shutdown(int how) {
  if (failed() || both_ended()) {
    shut_past_end_ = true;
    return Errno{ENOTCONN};
  }
  if (how == SHUT_RD || how == SHUT_RDWR) read_shut_ = true;
  if (how == SHUT_WR || how == SHUT_RDWR) write_shut_ = true;
  return Done{};
}

Status Ends::may_write(bool kernel_follows) {
  if (const int error = take_error()) return Errno{error};
  if (failed() || (write_shut_ && !kernel_follows)) return Errno{EPIPE};
  return Done{};
}

Result<size_t> Ends::read_end(bool at_end) {
  if (at_end) return size_t{0};
  if (const int error = take_error()) return Errno{error};
  if (failed() || read_shut_) return size_t{0};
  return Errno{EAGAIN};
}

int Ends::take_error() {
  if (failure_ != Failure::pending) return 0;
  failure_ = Failure::shown;
  return error_;
}

Ends::Word Ends::next_word(bool all_sent) {
  if (peer_closed() || told_ == Told::reset) return Word::nothing;
  if (aborts()) return told_ = Told::reset, Word::reset;
  if (!all_sent || told_ == Told::closed) return Word::nothing;
  if (closing()) return told_ = Told::closed, fin_told_ = true, Word::fin_closed;
  if (write_shut_ && told_ == Told::nothing) return told_ = Told::ended, fin_told_ = true, Word::fin;
  return Word::nothing;
}

bool Ends::fin(uint64_t total, bool closed, uint64_t landed) {
  if (peer_ == Peer::closed) return false;
  if (peer_ == Peer::ended && (*total_ != total || !closed)) return false;
  // A program that has closed lets the rest fall, and nobody counts it.
  if (!closing() && total != landed) return false;
  total_ = total;
  peer_ = closed ? Peer::closed : Peer::ended;
  return true;
}

int Ends::reset() {
  reset_due_ = false;
  peer_ = Peer::closed;
  if (both_ended()) return 0;
  return total_ ? EPIPE : ECONNRESET;
}

uint32_t Ends::readiness(bool ended) const {
  uint32_t ready = 0;
  if (failed() || read_shut_ || ended) ready |= EPOLLIN | EPOLLRDHUP;
  if (failed() || write_shut_ || peer_closed()) ready |= EPOLLOUT;
  if (failed() || ((ended || read_shut_) && write_shut_)) ready |= EPOLLHUP;
  if (failure_ == Failure::pending) ready |= EPOLLERR;
  return ready;
}

void Ends::forget_peer() {
  total_.reset();
  if (peer_ == Peer::ended) peer_ = Peer::open;
}

void Ends::hand_back() {
  total_.reset();
  peer_ = Peer::open;
  failure_ = Failure::none;
}

}  // namespace rsock::flow
