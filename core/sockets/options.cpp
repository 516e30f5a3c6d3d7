// Everything else on a flow: shutdown, options, ioctl, and the calls that no lane serves.

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "core/base/log.hpp"
#include "core/sockets/wait.hpp"

namespace rsock::sockets {
namespace {

// The flow, unless the kernel knows all there is to know of it.
std::shared_ptr<engine::Flow> off_kernel(int fd) {
  auto flow = lane_flow(fd);
  return flow && !flow->on_kernel() ? flow : nullptr;
}

}  // namespace

void leave_and_wait(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason) {
  constexpr auto kTurn = milliseconds(1);
  const bool unread = !flow->on_kernel() && flow->readable_bytes() > 0;
  flow->leave(reason);
  const auto deadline = now() + kLeaveBound;
  // What it shows meanwhile, bytes or an end, says nothing of when it is back.
  const auto back = [&] {
    if (flow->ending()) flow->end_on_kernel();
    return flow->kernel_follows() || (flow->over() && !flow->ending());
  };
  if (!wait_until(section, flow, deadline, back)) log::warning("a flow did not come back to TCP in time");
  // What was unread comes again on TCP, where the call that follows has to find it. It is counted, since poll would not see less than
  // SO_RCVLOWAT.
  const auto there = [&] {
    int count = 0;
    const bool counted = sys::ioctl(flow->shadow(), FIONREAD, &count) && count > 0;
    return counted || (sys::readiness(flow->shadow()) & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
  };
  while (unread && flow->on_kernel() && !there() && now() < deadline)
    (void)wait_for(section, flow, EPOLLIN, flow->low_water() > 1 ? std::min(deadline, now() + kTurn) : deadline);
}

void unserved(int fd, Reason reason) {
  if (idle()) return;
  Section section;
  take_over(section, fd, By::others);
  if (const auto flow = lane_flow(fd)) leave_and_wait(section, flow, reason);
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
    leave_and_wait(section, flow, Reason::unserved_call);
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
  if (idle() || level != SOL_SOCKET || (name != SO_ERROR && name != SO_RCVLOWAT)) return Answer<int>::pass();
  Section section;
  const auto flow = off_kernel(fd);
  if (!flow || flow->kernel_follows()) return Answer<int>::pass();
  // Whoever asks for the error takes it, also what the kernel has of it.
  int shadow = 0;
  socklen_t room = sizeof shadow;
  if (name == SO_ERROR && !sys::getsockopt(flow->shadow(), SOL_SOCKET, SO_ERROR, &shadow, room)) return Answer<int>::pass();
  // The kernel checks the program's pointers and shows how the answer is laid out; only the number is ours.
  const auto asked = sys::getsockopt(fd, SOL_SOCKET, SO_TYPE, value, *size);
  // An error is taken, too, where there is no place for it.
  const int error = name == SO_ERROR && (asked || asked.is(EFAULT)) ? flow->take_error() : 0;
  if (!asked) return Errno{asked.error()};
  const int answer = name == SO_ERROR ? error : static_cast<int>(flow->low_water());
  __builtin_memcpy(value, &answer, *size < sizeof answer ? *size : sizeof answer);
  return 0;
}

void option_set(int fd, int level, int name, const void* value, socklen_t size) {
  if (idle()) return;
  Section section;
  auto* entry = entry_of(fd, Entry::Kind::flow);
  if (!entry) return;
  if (level == SOL_SOCKET) {
    entry->receive_limit.reset(), entry->send_limit.reset();  // whichever name it has
    name == SO_RCVLOWAT ? entry->flow->low_water_set() : entry->flow->learn_options();
  }
  if (auto flow = lane_flow(fd); flow && engine::Flow::is_of_segments(level, name) && flow->asks_for_segments())
    return leave_and_wait(section, flow, Reason::unserved_call);
  // Whatever is held goes at once, corked or not.
  if (level == IPPROTO_TCP && name == TCP_NODELAY && entry->flow->selected()) entry->flow->push();
  if (level == IPPROTO_TCP && name == TCP_CORK && value && size >= sizeof(int)) {
    int on = 0;
    __builtin_memcpy(&on, value, sizeof on);
    entry->corked = on != 0;
    if (entry->flow->selected()) entry->flow->cork(entry->corked);
  }
}

Answer<int> ioctl(int fd, unsigned long request, void* argument) {
  if (idle() || (request != FIONREAD && request != SIOCOUTQ && request != SIOCATMARK)) return Answer<int>::pass();
  Section section;
  take_over(section, fd);
  if (const auto known = lane_flow(fd)) section.engine().poll(), known->look_further();
  const auto flow = off_kernel(fd);
  if (!flow) return Answer<int>::pass();
  const auto asked = sys::ioctl(fd, request, argument);  // the kernel checks the pointer
  if (!asked) return Errno{asked.error()};
  auto& answer = *static_cast<int*>(argument);
  switch (request) {
    case FIONREAD: answer = static_cast<int>(flow->readable_bytes()); break;
    case SIOCOUTQ: answer = static_cast<int>(flow->unsent_bytes()); break;
    case SIOCATMARK: answer = flow->urgent_is_next(); break;
  }
  return 0;
}

}  // namespace rsock::sockets
