// Bytes of the application: recv and send and their kin, on flows that a lane may serve.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <vector>

#include "core/base/pieces.hpp"
#include "core/sockets/wait.hpp"

namespace rsock::sockets {
namespace {

// What of `pieces` is left after `done` bytes.
std::vector<iovec> rest(std::span<const iovec> pieces, size_t done) {
  std::vector<iovec> left;
  for (auto piece : pieces) {
    const auto skip = std::min(done, piece.iov_len);
    done -= skip;
    if (piece.iov_len == skip) continue;
    left.push_back({static_cast<char*>(piece.iov_base) + skip, piece.iov_len - skip});
  }
  return left;
}

// A lane is sought by the process that uses a connection, when it has shown that it is worth one.
void use(engine::Engine& engine, engine::Flow& flow, engine::Use use) {
  auto& candidacy = flow.candidacy();
  if (candidacy.used() && candidacy.worth()) return;
  const bool accepted = flow.role() == engine::Role::acceptor;
  if (!candidacy.used()) {
    if (!flow.first_use()) return;
    if (accepted) engine.is_young(flow);
  }
  // A connector whose connection is not there yet is not young either.
  if (!accepted && !candidacy.expected()) return;
  const auto traffic = flow.traffic();
  if (flow.worth().uses(use, traffic.in + traffic.out, !accepted)) engine.is_worth_it(flow);
}

// When a call that begins now has to give up. What was asked of the kernel once is kept: most calls have no limit.
std::optional<Time> limit_of(Entry& entry, int fd, int option) {
  auto& known = option == SO_RCVTIMEO ? entry.receive_limit : entry.send_limit;
  if (!known) {
    timeval limit{};
    socklen_t size = sizeof limit;
    if (!sys::getsockopt(fd, SOL_SOCKET, option, &limit, size)) return {};
    constexpr int64_t kFar = 1'000'000'000;  // seconds, as of deadline_of
    known = std::chrono::seconds(std::min<int64_t>(limit.tv_sec, kFar)) + microseconds(limit.tv_usec);
  }
  if (known->count() == 0) return {};
  return now() + *known;
}

// Flags that mean something that no lane serves: the flow goes back to TCP first.
constexpr int kUnservedSend = MSG_OOB | MSG_FASTOPEN;

class Call {
 public:
  Call(Section& section, engine::Flow& flow, Entry& entry, int fd, bool dont_wait)
      : section_(section), flow_(flow), entry_(entry), fd_(fd), waits_(!entry.nonblocking && !dont_wait) {}

  ~Call() {
    if (kept_) kept_->release_hold();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  bool waits() const { return waits_; }
  // Sleeps until the flow shows `wanted`; EAGAIN when the socket's own time limit passes. `done`: what the call has
  // moved so far.
  Status wait(uint32_t wanted, int limit_option, size_t done) {
    if (!kept_) {
      kept_ = flow_.shared_from_this();
      kept_->hold();
      limit_ = limit_of(entry_, fd_, limit_option);
    }
    const auto* const engine = state.engine;
    const auto waited = wait(wanted);
    if (engine != state.engine) return Errno{EINTR};  // a child that a handler has forked: nothing here is its own
    if (waited.is(ETIMEDOUT)) return Errno{EAGAIN};
    // The kernel restarts a call that has moved nothing and has no time limit of its own, if the handler asks for it.
    if (!waited.is(EINTR) || limit_ || done > 0 || !since_.all_restart()) return waited;
    since_ = {};
    return Done{};
  }

 private:
  // What the call has moved is the program's, also where there is no memory to wait for more.
  Status wait(uint32_t wanted) {
    try {
      return wait_for(section_, kept_, wanted, limit_, since_);
    } catch (const std::bad_alloc&) {
      return Errno{ENOMEM};
    }
  }

  Section& section_;
  engine::Flow& flow_;
  Entry& entry_;  // only as long as the lock has not been let go
  int fd_;
  bool waits_;
  std::shared_ptr<engine::Flow> kept_;  // once it has waited: another thread may close the flow meanwhile
  std::optional<Time> limit_;
  Handled since_;  // in its beginning or last restart
};

// Whether a byte, or the end, is there. A read, which this stands for unless `peek`, leaves an urgent mark that it
// meets behind it, and so no EPOLLPRI: only the kernel can do that.
Result<size_t> look(engine::Flow& flow, bool peek) {
  std::byte unused;
  const iovec any{&unused, sizeof unused};
  const auto there = flow.read({&any, 1}, true);
  if (peek || !there.is(EAGAIN) || !flow.urgent_is_next()) return there;
  (void)flow.read_nothing(true, false);
  return flow.read({&any, 1}, true);
}

// MSG_TRUNC: the bytes go nowhere, and are counted.
Result<size_t> drop(engine::Flow& flow, size_t room, bool peek) {
  if (flow.on_kernel()) return flow.drop_raw(room, peek);
  std::byte waste[512];
  const auto there = look(flow, peek);
  if (!there || *there == 0) return there;
  const auto most = std::min(room, flow.readable_bytes());  // and not what comes behind it, which may be an error
  if (peek) return most;
  size_t done = 0;
  while (done < most) {
    const iovec piece{waste, std::min(sizeof waste, most - done)};
    const auto got = flow.read({&piece, 1}, false);
    if (!got || *got == 0) break;  // what it is, the next call learns
    done += *got;
  }
  return done;
}

// What is there, as far as it fits. Where no byte fits it is only looked for: recv of nothing waits as any other.
Result<size_t> take(engine::Flow& flow, Buffers to, bool peek, bool dropped) {
  const auto room = total(to.parts);
  if (dropped && room > 0) return drop(flow, room, peek);
  if (room > 0 && !(to.cut && flow.readable_bytes() > room)) return flow.read(to.parts, peek);
  if (flow.on_kernel()) return flow.read_nothing(to.cut, peek);
  const auto there = look(flow, peek);
  if (!there || *there == 0) return there;
  if (to.cut) return Errno{EFAULT};
  return size_t{0};
}

// What fits now. Nothing to write fits always, unless the stream is over. The kernel copies in pieces of 32 KiB at
// most, and a bad byte spoils its piece.
Result<size_t> give(engine::Flow& flow, Buffers from, size_t done) {
  constexpr size_t kPiece = 32 << 10;
  if (!from.cut || total(from.parts) >= kPiece) return flow.write(from.parts, done);
  if (const auto may = flow.may_write(); !may) return Errno{may.error()};
  if (flow.kernel_follows())  // it knows whether the stream is over
    if (const auto sent = flow.write({}, 0); !sent) return sent;
  return Errno{flow.readiness() & EPOLLOUT ? EFAULT : EAGAIN};
}

// Known without the lock.
bool kernel_serves(const Entry* entry) { return !entry || entry->passes.load(std::memory_order_acquire); }

// Under the lock: the flow or inherited entry behind the descriptor, whatever it was before.
Entry* stream_entry(Section& section, int fd) {
  take_over(section, fd);
  auto* entry = find(fd);
  const bool stream = entry && (entry->kind == Entry::Kind::flow || entry->kind == Entry::Kind::inherited);
  return stream && !kernel_serves(entry) ? entry : nullptr;
}

// As the kernel keeps it, which an accepted socket has from its listener.
bool tells_unread(Entry& entry, int fd) {
  if (!entry.tells_unread) {
    int on = 0;
    socklen_t size = sizeof on;
    entry.tells_unread = sys::getsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, size) && on != 0;
  }
  return *entry.tells_unread;
}

// What was moved is the answer, and the error behind it is for the next call to tell, as in the kernel.
bool error_waits(engine::Flow& flow, size_t done) { return done > 0 && (flow.readiness() & EPOLLERR); }

// receive() without what comes before and after.
Answer<size_t> receive_from(Section& section, Entry& entry, int fd, Buffers to, int flags) {
  auto& engine = section.engine();
  auto* const flow = entry.flow.get();
  const auto wanted = total(to.parts);
  const bool peek = flags & MSG_PEEK;
  const bool whole = (flags & MSG_WAITALL) && !peek;
  Call call(section, *flow, entry, fd, flags & MSG_DONTWAIT);
  // To wait for more than is there, without taking what is there, is what the kernel alone does. Where the stream has
  // ended there is nothing to wait for.
  const bool gathers = (flags & MSG_WAITALL) && peek && call.waits() && flow->readable_bytes() < wanted &&
                       (flow->on_kernel() || !(flow->readiness() & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)));
  // So is to wait for some of SO_RCVLOWAT bytes on TCP: poll says nothing of fewer.
  const bool least_on_kernel = flow->low_water() > 1 && flow->on_kernel() && call.waits() &&
                               flow->readable_bytes() < std::min(wanted, flow->low_water());
  if (gathers || least_on_kernel) {
    leave_or_break(section, entry.flow, Reason::unserved_call);
    if (flow->on_kernel()) return Answer<size_t>::pass();  // else some of it is here, in front of what the kernel has
  }
  const auto least = peek ? 0 : std::min(wanted, flow->low_water());
  size_t done = 0;
  for (;;) {
    if (error_waits(*flow, done)) return done;
    const auto left = done ? rest(to.parts, done) : std::vector<iovec>{};
    const Buffers into{done ? std::span<const iovec>(left) : to.parts, to.cut};
    auto got = take(*flow, into, peek, flags & MSG_TRUNC);
    if (got.is(EAGAIN) && engine.poll() && !error_waits(*flow, done)) got = take(*flow, into, peek, flags & MSG_TRUNC);
    if (got) {
      done += *got;
      if (*got == 0 || (whole ? done == wanted && !to.cut : done >= least) || flow->at_urgent_mark()) return done;
      continue;
    }
    if (got.is(EINTR)) continue;
    if (!got.is(EAGAIN) || !call.waits()) return done ? Answer<size_t>(done) : Answer<size_t>(got);
    const auto waited = call.wait(EPOLLIN | EPOLLRDHUP, SO_RCVTIMEO, done);
    if (wanted == 0 && !to.cut) return size_t{0};  // as the kernel, which waits once for it, and not for more
    if (waited) continue;
    // What came meanwhile, and was too little to wake it.
    if (flow->readable_bytes() > 0)
      if (const auto last = take(*flow, into, peek, flags & MSG_TRUNC)) done += *last;
    return done ? Answer<size_t>(done) : Answer<size_t>(Errno{waited.error()});
  }
}

}  // namespace

size_t readable_bytes(int fd) {
  if (kernel_serves(find(fd))) return 0;
  const Section section;
  const auto flow = lane_flow(fd);
  return flow ? flow->readable_bytes() : 0;
}

Answer<size_t> receive(int fd, Buffers to, int flags, std::optional<int>* unread) {
  if (kernel_serves(find(fd))) return Answer<size_t>::pass();
  pthread_testcancel();
  Section section;
  auto* entry = stream_entry(section, fd);
  if (!entry) return Answer<size_t>::pass();
  if (entry->kind == Entry::Kind::inherited) return Errno{ECONNRESET};
  auto* flow = lane_flow(*entry);
  if (!flow) return Answer<size_t>::pass();
  use(section.engine(), *flow, engine::Use::reads);
  if (flags & MSG_ERRQUEUE) return Answer<size_t>::pass();
  // Urgent data takes both ends to TCP before it is sent. What is not there is an error at once.
  if (flags & MSG_OOB) {
    if (flow->urgent_by_kernel()) return Answer<size_t>::pass();
    return Errno{EINVAL};
  }
  if (!unread || !tells_unread(*entry, fd)) return receive_from(section, *entry, fd, to, flags);
  const auto kept = entry->flow;
  const auto answer = receive_from(section, *entry, fd, to, flags);
  if (answer.served() && answer.result()) *unread = kept->unread_hint();
  return answer;
}

Answer<size_t> transmit(int fd, Buffers from, int flags, const msghdr* message) {
  if (kernel_serves(find(fd))) return Answer<size_t>::pass();
  pthread_testcancel();
  Section section;
  auto* entry = stream_entry(section, fd);
  if (!entry) return Answer<size_t>::pass();
  if (entry->kind == Entry::Kind::inherited) return Errno{EPIPE};
  auto* flow = lane_flow(*entry);
  if (!flow) return Answer<size_t>::pass();
  auto& engine = section.engine();
  use(engine, *flow, engine::Use::writes);
  if ((flags & kUnservedSend) || (message && message->msg_controllen > 0)) {
    if (const auto may = flow->may_write(); !may && !flow->on_kernel()) return Errno{may.error()};
    leave_or_break(section, entry->flow, Reason::unserved_call);
    return Answer<size_t>::pass();
  }
  const auto wanted = total(from.parts);
  flow->gather((flags & MSG_MORE) || entry->corked);
  Call call(section, *flow, *entry, fd, flags & MSG_DONTWAIT);
  size_t done = 0;
  for (;;) {
    if (error_waits(*flow, done)) break;
    auto sent = give(*flow, from, done);
    if (sent.is(EAGAIN) && engine.poll() && !error_waits(*flow, done)) sent = give(*flow, from, done);
    if (sent.is(EINTR)) continue;
    if (sent) {
      done += *sent;
      if (done == wanted || !call.waits()) break;
      continue;
    }
    if (!sent.is(EAGAIN) || !call.waits()) {
      if (done == 0) return sent;
      break;
    }
    const auto waited = call.wait(EPOLLOUT, SO_SNDTIMEO, done);
    if (!waited) {
      if (done == 0) return Errno{waited.error()};
      break;
    }
  }
  return done;
}

Answer<size_t> transmit_file(int fd, int in, off64_t* offset, size_t count) {
  if (kernel_serves(find(fd))) return Answer<size_t>::pass();
  // Only what can be put back may be read: the kernel takes no pipe and no socket either.
  if (kernel.syscall(SYS_lseek, in, 0, SEEK_CUR) < 0) return Errno{errno == ESPIPE && !offset ? EINVAL : errno};
  constexpr size_t kChunk = 64 << 10;
  HeldVector<std::byte> buffer(std::min(count, kChunk));
  size_t done = 0;
  while (done < count) {
    const auto size = std::min(count - done, kChunk);
    const long got = offset ? kernel.syscall(SYS_pread64, in, buffer.data(), size, *offset)
                            : kernel.syscall(SYS_read, in, buffer.data(), size);
    if (got < 0) return done ? Answer<size_t>(done) : Answer<size_t>(Errno{errno});
    if (got == 0) {
      const Section section;
      if (const auto flow = lane_flow(fd)) flow->cork(false);  // the last piece said that more would come
      break;
    }
    const iovec piece{buffer.data(), static_cast<size_t>(got)};
    const bool more = static_cast<size_t>(got) == size && done + size < count;
    const auto sent = transmit(fd, {{&piece, 1}}, more ? MSG_MORE : 0);
    if (!sent.served()) {  // the kernel serves it from now on; the file is where it was
      if (!offset) kernel.syscall(SYS_lseek, in, -static_cast<off_t>(got), SEEK_CUR);
      return done ? Answer<size_t>(done) : Answer<size_t>::pass();
    }
    const auto taken = sent.result() ? *sent.result() : 0;
    // What the socket did not take is still the file's.
    if (!offset && taken < static_cast<size_t>(got))
      kernel.syscall(SYS_lseek, in, static_cast<off_t>(taken) - static_cast<off_t>(got), SEEK_CUR);
    if (offset) *offset += static_cast<off64_t>(taken);
    done += taken;
    if (!sent.result()) return done ? Answer<size_t>(done) : sent;
    if (taken < static_cast<size_t>(got)) break;
  }
  return done;
}

namespace {

void passed(int fd, size_t bytes, PerLane& counts, void (engine::Flow::*count)(size_t),
            std::atomic<uint64_t> engine::Flow::Passed::*way) {
  auto* entry = find(fd);
  if (!entry) return;
  if (entry->passes.load(std::memory_order_acquire)) {
    (entry->passed.*way).fetch_add(bytes, std::memory_order_relaxed);
  } else {
    const Section section;
    if (auto* flow = entry_of(fd, Entry::Kind::flow); flow && flow->flow->selected())
      ((*flow->flow).*count)(bytes);
    else
      return;
  }
  counts[Lane::tcp].add(bytes);
}

}  // namespace

void passed_in(int fd, size_t bytes) {
  passed(fd, bytes, statistics.bytes_in, &engine::Flow::count_in, &engine::Flow::Passed::in);
}
void passed_out(int fd, size_t bytes) {
  passed(fd, bytes, statistics.bytes_out, &engine::Flow::count_out, &engine::Flow::Passed::out);
}

}  // namespace rsock::sockets
