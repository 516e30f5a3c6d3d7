// Everything else on a flow: shutdown, options, ioctl, and the calls that no lane serves.

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "core/base/copy.hpp"
#include "core/base/log.hpp"
#include "core/sockets/wait.hpp"

namespace rsock::sockets {
namespace {

// The flow, unless the kernel knows all there is to know of it.
std::shared_ptr<engine::Flow> off_kernel(int fd) {
  auto flow = lane_flow(fd);
  return flow && !flow->on_kernel() ? flow : nullptr;
}

// Options that a flow sets in the kernel, too, for what it does itself: the program's calls that concern them are
// made under the lock. A value that got into the kernel before the lock was taken could be replaced there by the
// service thread, and would then be taken for the program's.
constexpr bool is_nodelay(int level, int name) { return level == IPPROTO_TCP && name == TCP_NODELAY; }
constexpr bool is_low_water(int level, int name) { return level == SOL_SOCKET && name == SO_RCVLOWAT; }
constexpr bool is_ours_too(int level, int name) { return is_nodelay(level, name) || is_low_water(level, name); }

// The kernel checks the program's pointers and shows how the answer is laid out; only the number may be ours.
Answer<int> get_ours_too(int fd, int level, int name, void* value, socklen_t* size) {
  Section section;
  const auto* entry = entry_of(fd, Entry::Kind::flow);
  if (!entry) return Answer<int>::pass();
  if (const auto asked = sys::getsockopt(fd, level, name, value, *size); !asked) return Errno{asked.error()};
  const auto own = is_nodelay(level, name) ? entry->flow->own_nodelay() : entry->flow->own_low_water();
  if (own && !copy(value, &*own, std::min<size_t>(*size, sizeof *own))) return Errno{EFAULT};
  return 0;
}

}  // namespace

bool leave_and_wait(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason, std::optional<Time> limit) {
  constexpr auto kTurn = milliseconds(1);
  const bool unread = !flow->on_kernel() && flow->readable_bytes() > 0;
  flow->leave(reason);
  const auto deadline = limit.value_or(now() + kLeaveBound);
  // What it shows meanwhile, bytes or an end, says nothing of when it is back.
  const auto back = [&] {
    if (flow->ending()) flow->end_on_kernel();
    return flow->kernel_follows() || (flow->over() && !flow->ending());
  };
  if (!wait_until(section, flow, deadline, back)) {
    log::warning("a flow did not come back to TCP in time");
    return false;
  }
  // What was unread comes again on TCP, where the call that follows has to find it. It is counted, since poll would not
  // see less than SO_RCVLOWAT.
  const auto there = [&] {
    int count = 0;
    const bool counted = sys::ioctl(flow->shadow(), FIONREAD, &count) && count > 0;
    return counted || (sys::readiness(flow->shadow()) & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
  };
  while (unread && flow->on_kernel() && !there() && now() < deadline)
    (void)wait_for(section, flow, EPOLLIN, flow->low_water() > 1 ? std::min(deadline, now() + kTurn) : deadline);
  flow->forgo_rest();
  return true;
}

void leave_or_break(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason, std::optional<Time> deadline) {
  if (!leave_and_wait(section, flow, reason, deadline)) flow->break_off();
}

void unserved(int fd, Reason reason) {
  if (idle()) return;
  Section section;
  take_over(section, fd, By::others);
  // Whoever gets an epoll set has the kernel's.
  if (auto* entry = entry_of(fd, Entry::Kind::set); entry && entry->set && reason == Reason::shared)
    return give_up_and_wait(section, entry->set);
  if (const auto flow = lane_flow(fd)) leave_or_break(section, flow, reason);
}

void unhonoured(int fd) {
  if (idle()) return;
  Section section;
  take_over(section, fd, By::others);
  if (const auto flow = lane_flow(fd)) (void)leave_and_wait(section, flow, Reason::unserved_call);
}

bool disconnected(int fd) {
  if (idle()) return false;
  Section section;
  const auto flow = off_kernel(fd);
  return flow && flow->disconnected();
}

void end_known(int fd) {
  if (idle() || in_borrowed_memory()) return;
  Section section;
  if (const auto flow = off_kernel(fd); flow && flow->disconnected())
    (void)leave_and_wait(section, flow, Reason::unserved_call);
}

Answer<int> shutdown(int fd, int how) {
  if (idle()) return Answer<int>::pass();
  Section section;
  take_over(section, fd);
  auto* entry = entry_of(fd, Entry::Kind::flow);
  const auto flow = entry ? entry->flow : nullptr;
  if (!flow) return Answer<int>::pass();
  if (!lane_flow(*entry) || flow->kernel_follows()) {
    flow->kernel_shut();
    return Answer<int>::pass();
  }
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return Errno{EINVAL};
  const auto done = flow->shutdown(how);
  if (!done) return Errno{done.error()};
  return 0;
}

Answer<int> getsockopt(int fd, int level, int name, void* value, socklen_t* size) {
  if (!idle() && is_ours_too(level, name)) return get_ours_too(fd, level, name, value, size);
  if (idle() || level != SOL_SOCKET || name != SO_ERROR) return Answer<int>::pass();
  Section section;
  const auto flow = off_kernel(fd);
  if (!flow || flow->kernel_follows()) return Answer<int>::pass();
  // Whoever asks for the error takes it, also what the kernel has of it.
  int shadow = 0;
  socklen_t room = sizeof shadow;
  if (!sys::getsockopt(flow->shadow(), SOL_SOCKET, SO_ERROR, &shadow, room)) return Answer<int>::pass();
  // The kernel checks the program's pointers and shows how the answer is laid out; only the number is ours.
  const auto asked = sys::getsockopt(fd, SOL_SOCKET, SO_TYPE, value, *size);
  // An error is taken, too, where there is no place for it.
  const int error = asked || asked.is(EFAULT) ? flow->take_error() : 0;
  if (!asked) return Errno{asked.error()};
  if (!copy(value, &error, std::min<size_t>(*size, sizeof error))) return Errno{EFAULT};
  return 0;
}

Answer<int> setsockopt(int fd, int level, int name, const void* value, socklen_t size) {
  if (idle() || in_borrowed_memory() || !is_ours_too(level, name)) return Answer<int>::pass();
  Section section;
  const auto* entry = entry_of(fd, Entry::Kind::flow);
  if (!entry) return Answer<int>::pass();
  if (const auto set = sys::setsockopt(fd, level, name, value, size); !set) return Errno{set.error()};
  if (is_low_water(level, name))
    entry->flow->low_water_set();
  else if (entry->flow->selected())
    entry->flow->nodelay_set();
  return 0;
}

namespace {

std::optional<Duration>* limit_of(Entry& entry, int name) {
  switch (name) {
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW: return &entry.receive_limit;
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW: return &entry.send_limit;
    default: return nullptr;
  }
}

// A negative time, which the kernel took, means that no call waits. It tells of it as of no limit, so it is noted; all
// others are asked for when they are needed.
void note_limit(Entry& entry, int name, const void* value) {
  auto* limit = limit_of(entry, name);
  if (!limit) return;
  timeval time{};
  if (value) __builtin_memcpy(&time, value, sizeof time);
  limit->reset();
  if (time.tv_sec < 0) *limit = Duration(-1);
}

}  // namespace

void option_set(int fd, int level, int name, const void* value, socklen_t size) {
  if (idle()) return;
  Section section;
  if (auto* any = level == SOL_SOCKET ? known_socket(section, fd) : nullptr) note_limit(*any, name, value);
  auto* entry = entry_of(fd, Entry::Kind::flow);
  if (!entry) return;
  if (level == SOL_SOCKET) entry->flow->learn_options();
  if (level == IPPROTO_TCP && name == TCP_INQ) entry->tells_unread.reset();
  if (auto flow = lane_flow(fd); flow && engine::ShadowSocket::is_of_segments(level, name) && flow->asks_for_segments())
    return void(leave_and_wait(section, flow, Reason::unserved_call));
  if (level == IPPROTO_TCP && name == TCP_CORK && value && size >= sizeof(int)) {
    int on = 0;
    __builtin_memcpy(&on, value, sizeof on);
    entry->corked = on != 0;
    if (entry->flow->selected()) entry->flow->cork(entry->corked);
  }
}

Answer<Unread> unread(int fd) {
  if (idle()) return Answer<Unread>::pass();
  Section section;
  take_over(section, fd);
  const auto flow = lane_flow(fd);
  if (!flow) return Answer<Unread>::pass();
  section.engine().poll();
  return Unread{flow->readable_bytes(), flow->peer_ended()};
}

Answer<int> ioctl(int fd, unsigned long request, void* argument) {
  if (idle() || (request != FIONREAD && request != SIOCOUTQ && request != SIOCATMARK)) return Answer<int>::pass();
  Section section;
  take_over(section, fd);
  const auto flow = lane_flow(fd);
  if (!flow) return Answer<int>::pass();
  section.engine().poll();
  const auto asked = sys::ioctl(fd, request, argument);  // the kernel checks the pointer
  if (!asked) return Errno{asked.error()};
  // Its answer was asked for here: without the lock the peer's mark might come before, and count as bytes.
  if (flow->on_kernel()) return 0;
  int answer = 0;
  switch (request) {
    case FIONREAD: answer = static_cast<int>(flow->readable_bytes()); break;
    case SIOCOUTQ: answer = static_cast<int>(flow->unsent_bytes()); break;
    case SIOCATMARK: answer = flow->urgent_is_next(); break;
  }
  if (!copy(argument, &answer, sizeof answer)) return Errno{EFAULT};
  return 0;
}

}  // namespace rsock::sockets
