#pragma once
// The kernel's TCP connection beneath a flow. It keeps count of both streams, holds what must go out before
// anything of the program's, and remembers the kernel's readiness.
//
//   position_in  = the program's bytes that were taken from TCP + marks and frames
//   position_out = the program's bytes that TCP took + marks and frames that it took
//
// Outgoing, in this order: control() (marks, frames), rest() (the program's bytes that a lane or a cutover
// left behind), and then what write() is given.
//
// Readiness: an edge-triggered watch sets the two flags by became(), an EAGAIN clears them.
//
// Under the engine's lock; nothing here blocks. After fork(2) a child must not use it: the counts are the
// maker's.

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/base/kernel.hpp"
#include "core/base/unique_fd.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/mark.hpp"

struct iovec;

namespace rsock::engine {

class ShadowSocket {
 public:
  // `fd`: the program's descriptor, which is used until there is an anchor.
  explicit ShadowSocket(int fd) : program_(fd) {}

  // ---- the descriptor
  int fd() const { return anchor_ ? anchor_.get() : program_; }
  // The program closed `from`; `to` names the connection still.
  void renamed(int from, int to) {
    if (program_ == from) program_ = to;
  }
  // The anchor: a duplicate of the library's own, since the program may close or replace its descriptor at
  // any time.
  bool anchored() const { return static_cast<bool>(anchor_); }
  // False if no descriptor is to be had.
  bool make_anchor();
  // For calls that go on when the program has closed its descriptor; where no descriptor is to be had, they
  // go on by its number.
  void make_last_anchor();
  void give_anchor_back() { anchor_.reset(); }
  // Lets go of the connection.
  bool has() const { return fd() >= 0; }
  void forget() { anchor_.reset(), program_ = -1; }

  // ---- readiness
  bool watched() const { return watched_; }
  // Somebody looks from now on, by became(). True if nobody did before.
  bool begin_watch();
  void end_watch() { watched_ = false; }
  void became(uint32_t events);
  bool in_ready() const { return in_ready_; }
  bool out_ready() const { return out_ready_; }
  // Bytes or an end are known to be there.
  void note_input() { in_ready_ = true; }
  // EPOLLIN and EPOLLPRI, as far as the watch has told of them. Takes no pending error.
  uint32_t input();
  uint32_t readiness() const { return sys::readiness(fd()); }  // the kernel's own, as epoll events
  std::optional<size_t> unread() const;                        // bytes; nothing if the kernel does not say
  // A read that has taken something ends there.
  bool at_urgent_mark() const { return sys::at_urgent_mark(fd()); }

  // ---- the incoming stream
  uint64_t position_in() const { return raw_in_ + control_in_; }
  uint64_t raw_in() const { return raw_in_; }
  // The program took bytes by a call that did not pass here.
  void count_in(size_t bytes) { raw_in_ += bytes; }
  // At most `most` bytes of the program's into `to`, from its byte `at` on. 0: the end of the stream. EAGAIN,
  // or TCP's error.
  Result<size_t> read(std::span<const iovec> to, size_t at, uint64_t most, bool peek);
  // The same, into nothing.
  Result<size_t> drop(size_t room, bool peek);
  // Collects a frame, which may come in parts: how many bytes of it there are. 0: the end of the stream.
  // EAGAIN, or TCP's error.
  Result<size_t> collect_frame();
  // The frame that is whole; the next one begins.
  const std::array<uint8_t, wire::kFrameSize>& take_frame() { return arrived_ = 0, arriving_; }
  // What comes `ahead` bytes after what was taken, without taking any: as many bytes as there are. With
  // `ahead`, all or EAGAIN.
  Result<size_t> peek(uint64_t ahead, std::span<uint8_t> to);
  // Takes what is there of a mark that has not come whole, at most `size` bytes in all: a peek leaves them in
  // the kernel's buffer, and if that is small, the rest is not let in. They count as not taken until it is
  // known what they are, and peek() tells of them.
  void take_part_of_mark(size_t size);
  // Takes a mark that is there.
  void take_mark();
  // It was none: these are the program's, and count as taken. They stay until the next of these calls.
  std::span<const std::byte> give_part();

  // ---- the outgoing stream
  uint64_t position_out() const { return raw_out_ + control_out_; }
  uint64_t raw_out() const { return raw_out_; }
  void count_out(size_t bytes) { raw_out_ += bytes; }
  // `more`: the kernel may wait for the bytes that follow.
  Result<size_t> write(std::span<const iovec> from, size_t skip, bool more);
  void say(std::span<const uint8_t> control) { control_.insert(control_.end(), control.begin(), control.end()); }
  void say_rest(std::span<const std::byte> bytes) { rest_.insert(rest_.end(), bytes.begin(), bytes.end()); }
  // Nothing that was said goes any more.
  void unsay();
  size_t rest() const { return rest_.size() - rest_at_; }  // bytes
  bool owes() const { return !control_.empty() || rest() > 0; }
  // Sends what is owed. False if some is left, which stays when the kernel takes no more: refused() says why.
  bool flush();
  int refused() const { return refused_; }  // the first errno, 0 as long as there was none
  // Bytes of this end that the peer's kernel has not acknowledged, with those that are owed.
  uint64_t undelivered() const;
  // Sends what TCP holds: the program's cork waits for bytes that no longer come that way, Nagle's algorithm
  // for an acknowledgement that the peer delays. The kernel does so whenever TCP_NODELAY is set.
  void push();
  // The program's value, where push() has left another one in the kernel.
  std::optional<int> own_nodelay() const { return nodelay_is_ours_ ? std::optional(0) : std::nullopt; }
  void nodelay_set() { nodelay_is_ours_ = false; }

  // ---- the ends
  bool ended() const { return ended_; }  // incoming, and that was noticed
  void note_end() { ended_ = true; }
  // It has ended, with an errno or 0, and what that means is not decided yet. False if that is known already.
  bool suspect_end(int error);
  bool end_suspected() const { return end_.has_value(); }
  int take_suspected_end() { return ended_ = true, *std::exchange(end_, {}); }
  bool is_shut() const { return shut_; }  // outgoing
  void note_shut() { shut_ = true; }
  void shut();
  // The end, or an error, is there and no byte in front of it. Asks without taking a pending error.
  bool at_end() const;
  bool ended_by_peer() const;  // its FIN is here
  bool takes_bytes() const;    // the outgoing stream goes on: it was not shut, and the connection is there
  bool over() const;           // the peer's end of the connection is no more
  // Whoever waits has heard that the connection is no more: when the service hears so of the kernel, that is no news.
  bool hangup_told() const { return hangup_told_; }
  void note_hangup_told() { hangup_told_ = true; }
  bool was_over();                                          // also when this was last asked
  bool let_go_over() const { return !has() && was_over_; }  // when it was asked before forget()
  // It ends by RST when the library lets go of it.
  void end_hard();
  // The last descriptor will be the library's: closing it must not wait, as it would where the socket
  // lingers.
  void end_in_background();
  // The kernel answers bytes for a connection that was closed, or shut both ways, by RST: makes the peer's do
  // that.
  void provoke_reset();
  // Bytes that came when the program had shut both ways already are answered by RST, as the kernel answers
  // them.
  void reset_if_unread();
  // At once, and for all who have the socket.
  void reset();

  // ---- what the program set
  int option(int level, int name, int otherwise) const;  // an int; `otherwise` if the kernel does not say
  bool resets_on_close() const;                          // SO_LINGER with 0
  bool asks_for_segments() const;                        // what only TCP can tell: O_ASYNC, timestamps
  static bool is_of_segments(int level, int name);

  // Whether the kernel has counted what we have: bytes that it sent or gave without our knowledge (a stdio
  // stream, another process) make the offsets of a cutover wrong. `connector`: this end connected.
  enum class Count { agrees, differs, half_closed, unknown };
  Count compare_with_kernel(bool connector) const;

 private:
  Result<size_t> taken(Result<size_t> got, bool peek);
  Result<size_t> send(const void* bytes, size_t size);

  int program_;
  UniqueFd anchor_;
  bool watched_ = false, in_ready_ = true, out_ready_ = true;
  bool ended_ = false, shut_ = false, was_over_ = false, hangup_told_ = false;
  int refused_ = 0;
  std::optional<int> end_;
  uint64_t raw_in_ = 0, raw_out_ = 0;          // application bytes, ever
  uint64_t control_in_ = 0, control_out_ = 0;  // marks and frames, ever
  std::array<uint8_t, wire::kFrameSize> arriving_{};
  size_t arrived_ = 0;
  wire::Mark part_{};
  size_t part_size_ = 0;
  std::vector<uint8_t> control_;
  std::vector<std::byte> rest_;
  size_t rest_at_ = 0;
  bool nodelay_is_ours_ = false;
};

}  // namespace rsock::engine
