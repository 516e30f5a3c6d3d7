// poll, select and epoll sets. None of them sleeps, or only for moments.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "program.hpp"

namespace differential {
namespace {

constexpr size_t kMostSets = 4;

short any_events(Numbers& random) {
  if (random.one_in(3)) return POLLIN | POLLOUT | POLLRDHUP | POLLPRI;
  return static_cast<short>(random.some_of({POLLIN, POLLOUT, POLLRDHUP, POLLPRI, POLLRDNORM, POLLWRNORM}) |
                            (random.one_in(8) ? random.some_of({POLLERR, POLLHUP, POLLRDBAND, POLLWRBAND}) : 0));
}

// A set of which nobody knows whether it is ready. Its own wait says what it is ready for.
bool is_unsure(const Program& program, int fd) {
  return std::any_of(program.handles.begin(), program.handles.end(),
                     [fd](const auto& one) { return one.fd == fd && one.set && one.set->may_say_more(); });
}

void poll_some(Program& program, Numbers& random) {
  std::vector<pollfd> list;
  for (auto left = random.between(0, 6); left > 0; --left) {
    const int fd = program.any_number(random);
    list.push_back({is_unsure(program, fd) ? -1 : fd, any_events(random), 0x55});
  }
  const timespec now{0, 0};
  sigset_t none;
  sigemptyset(&none);
  long ready;
  switch (random.below(5)) {
    case 0:
    case 1:
      program.trace.add("poll");
      ready = poll(list.data(), list.size(), 0);
      break;
    case 2:
      program.trace.add("ppoll");
      ready = ppoll(list.data(), list.size(), &now, random.one_in(2) ? &none : nullptr);
      break;
    case 3:
      program.trace.add("SYS_poll");
      ready = syscall(SYS_poll, list.data(), list.size(), 0);
      break;
    default:
      program.trace.add("poll, 2 ms,");
      ready = poll(list.data(), list.size(), 2);
      break;
  }
  program.trace.result(ready);
  for (const auto& one : list)
    program.trace.add(" %d:%s>%s", one.fd, events_named(static_cast<uint16_t>(one.events)).c_str(),
                      events_named(static_cast<uint16_t>(one.revents)).c_str());
}

void select_some(Program& program, Numbers& random) {
  fd_set sets[3];
  for (auto& set : sets) FD_ZERO(&set);
  int most = -1;
  for (auto left = random.between(0, 6); left > 0; --left) {
    const auto* handle = program.any(random);
    const int fd = handle && !random.one_in(40) ? handle->fd : kNobody;
    const auto which = random.between(1, 7);
    if (is_unsure(program, fd)) continue;
    for (unsigned i = 0; i < 3; ++i)
      if (which & 1u << i) FD_SET(fd, &sets[i]);
    most = std::max(most, fd);
  }
  fd_set* given[3];
  for (int i = 0; i < 3; ++i) given[i] = random.one_in(6) ? nullptr : &sets[i];
  timeval now{0, 0};
  timespec also_now{0, 0};
  long ready;
  if (random.one_in(2)) {
    program.trace.add("select");
    ready = select(most + 1, given[0], given[1], given[2], &now);
  } else {
    program.trace.add("pselect");
    ready = pselect(most + 1, given[0], given[1], given[2], &also_now, nullptr);
  }
  program.trace.result(ready);
  for (int i = 0; i < 3; ++i) {
    if (!given[i]) continue;
    program.trace.add(" %c", "rwx"[i]);
    for (int fd = 0; fd <= most; ++fd)
      if (FD_ISSET(fd, &sets[i])) program.trace.add(" %d", fd);
  }
}

uint32_t member_events(Numbers& random) {
  uint32_t events = random.one_in(3) ? EPOLLIN : random.some_of({EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI});
  if (random.one_in(2)) events |= EPOLLIN;
  if (random.one_in(3)) events |= EPOLLET;
  if (random.one_in(5)) events |= EPOLLONESHOT;
  if (random.one_in(16)) events |= EPOLLEXCLUSIVE;
  if (random.one_in(20)) events |= EPOLLHUP | EPOLLERR;
  return events;
}

// What it would say.
uint32_t ready(const Program& program, const Set::Member& member) {
  pollfd look{member.set ? member.fd : program.descriptor_of(*member.end), static_cast<short>(member.events), 0};
  return poll(&look, 1, 0) == 1 ? static_cast<uint16_t>(look.revents) : 0;
}

// Reports every member that is ready at least once, whatever the order: waits until nothing new comes. What is reported
// once only (edge, one-shot) is counted. Of a member that may say once more what is ready (`~`), the trace tells also
// where it did not (`-`).
void wait_for_members(Program& program, Handle& handle, Numbers& random) {
  auto& set = *handle.set;
  const int room = random.one_in(3) ? static_cast<int>(random.between(1, 3)) : 32;
  const int form = static_cast<int>(random.below(4));
  program.trace.add("%s %d room %d",
                    form == 0   ? "epoll_pwait"
                    : form == 1 ? "SYS_epoll_wait"
                    : form == 2 ? "epoll_pwait2"
                                : "epoll_wait",
                    handle.fd, room);
  std::map<uint32_t, std::pair<uint32_t, int>> seen;
  bool refused = false;
  const auto collect = [&] {
    for (size_t idle = 0; idle * static_cast<size_t>(room) <= set.members.size() + 1; ++idle) {
      epoll_event events[32];
      const timespec now{0, 0};
      const long got = form == 0   ? epoll_pwait(handle.fd, events, room, 0, nullptr)
                       : form == 1 ? syscall(SYS_epoll_wait, handle.fd, events, room, 0)
                       : form == 2 ? epoll_pwait2(handle.fd, events, room, &now, nullptr)
                                   : epoll_wait(handle.fd, events, room, 0);
      if (got < 0 || got > room) {
        program.trace.result(got);
        refused = true;
        return;
      }
      for (long i = 0; i < got; ++i) {
        const auto data = events[i].data.u32;
        auto& [what, times] = seen[data];
        const auto known = set.members.find(data);
        const bool once = known == set.members.end() || (known->second.events & (EPOLLET | EPOLLONESHOT));
        if (times == 0 || once || what != events[i].events) idle = 0;
        if (times == 0 || once) ++times;
        what |= events[i].events;
        if (times > 50) break;
      }
      if (got == 0) return;
    }
  };
  // While a connection enters, what comes to it by TCP is told by the library's thread, a moment later than by the
  // kernel.
  const auto may_come = [&] {
    return std::any_of(set.members.begin(), set.members.end(), [&](const auto& member) {
      return member.second.may_say_more() && !seen.contains(member.first) && ready(program, member.second) != 0;
    });
  };
  collect();
  for (int turns = 0; turns < 20 && !refused && may_come(); ++turns) {
    usleep(1000);
    collect();
  }
  const auto say = [&](uint32_t data, const char* mark, uint32_t what, int times) {
    program.trace.add(" %u%s%s", data, mark, events_named(what).c_str());
    if (times > 1) program.trace.add("*%d", times);
  };
  for (auto& [data, member] : set.members) {
    if (!member.may_say_more()) continue;
    const auto told = seen.find(data);
    if (told == seen.end()) {
      if (const auto what = ready(program, member)) say(data, "-", what, 0);
      continue;
    }
    member.over = member.events & EPOLLONESHOT;
    say(data, "~", told->second.first, told->second.second);
    seen.erase(told);
  }
  for (const auto& [data, what] : seen) say(data, ":", what.first, what.second);
}

}  // namespace

void Program::arm_again(int connection) {
  for (const auto& watching : handles) {
    if (watching.kind != Handle::Kind::set) continue;
    std::map<int, uint32_t> newest;  // data, by descriptor
    for (const auto& [data, member] : watching.set->members) newest[member.fd] = data;
    for (const auto& watched : handles) {
      if (!watched.end || watched.end->connection != connection || !newest.contains(watched.fd)) continue;
      const auto data = newest[watched.fd];
      epoll_event event{};
      event.events = watching.set->members[data].events;
      event.data.u64 = data;
      if (!(event.events & EPOLLET) || (event.events & EPOLLONESHOT)) continue;
      if (epoll_ctl(watching.fd, EPOLL_CTL_DEL, watched.fd, nullptr) == 0)
        epoll_ctl(watching.fd, EPOLL_CTL_ADD, watched.fd, &event);
    }
  }
}

void operate_poll(Program& program, Numbers& random) {
  if (random.one_in(3)) return select_some(program, random);
  poll_some(program, random);
}

void operate_sets(Program& program, Numbers& random) {
  auto* handle = program.any(random, Handle::Kind::set);
  size_t sets = 0;
  for (const auto& one : program.handles) sets += one.kind == Handle::Kind::set;
  if (!handle || (sets < kMostSets && random.one_in(6))) {
    program.trace.add("epoll_create1");
    const int fd = static_cast<int>(program.trace.result(epoll_create1(random.one_in(2) ? EPOLL_CLOEXEC : 0)));
    program.add({Handle::Kind::set, fd, {}, std::make_shared<Set>()});
    return;
  }
  auto& set = *handle->set;
  const int number = random.one_in(15) ? program.any_number(random) : handle->fd;
  auto* known = program.any(random, random.one_in(5) ? Handle::Kind::pipe_in : Handle::Kind::socket);
  if (!known || random.one_in(8)) known = program.any(random);
  int fd = random.one_in(20) ? program.any_number(random) : known->fd;
  if (!set.numbers.empty() && random.one_in(2)) fd = random.one_of(set.numbers);
  const bool there = std::find(set.numbers.begin(), set.numbers.end(), fd) != set.numbers.end();
  int operation = there ? random.one_of({EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL}) : EPOLL_CTL_ADD;
  if (random.one_in(10)) operation = random.one_of({EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, 77});
  epoll_event event{};
  event.events = member_events(random);
  if (operation == EPOLL_CTL_MOD && !random.one_in(10)) event.events &= ~EPOLLEXCLUSIVE;
  event.data.u64 = program.next_data++;
  auto* told = random.one_in(40) ? static_cast<epoll_event*>(bad_pointer()) : random.one_in(40) ? nullptr : &event;
  program.trace.add("epoll_ctl %d %s %d %s data %u%s", number,
                    operation == EPOLL_CTL_ADD   ? "ADD"
                    : operation == EPOLL_CTL_MOD ? "MOD"
                    : operation == EPOLL_CTL_DEL ? "DEL"
                                                 : "77",
                    fd, events_named(event.events).c_str(), event.data.u32,
                    told == &event ? ""
                    : told         ? " bad"
                                   : " null");
  const long done = program.trace.result(random.one_in(6) ? syscall(SYS_epoll_ctl, number, operation, fd, told)
                                                          : epoll_ctl(number, operation, fd, told));
  if (done != 0) return;
  for (auto& other : program.handles) {
    if (other.kind != Handle::Kind::set || other.fd != number) continue;
    auto& numbers = other.set->numbers;
    std::erase(numbers, fd);
    const auto named =
        std::find_if(program.handles.begin(), program.handles.end(), [fd](const auto& one) { return one.fd == fd; });
    const auto end = named == program.handles.end() ? nullptr : named->end;
    const auto inner = named == program.handles.end() ? nullptr : named->set;
    for (auto& [data, member] : other.set->members) member.over |= member.fd == fd && member.end == end;
    if (operation == EPOLL_CTL_DEL) return;
    numbers.push_back(fd);
    other.set->members[event.data.u32] = {event.events, fd, end, inner};
    return;
  }
}

void operate_set_waits(Program& program, Numbers& random) {
  auto* handle = program.any(random, Handle::Kind::set);
  if (!handle) return operate_poll(program, random);
  epoll_event events[4];
  if (random.one_in(30)) {
    program.trace.add("epoll_wait %d room 0", handle->fd);
    program.trace.result(epoll_wait(handle->fd, events, 0, 0));
  } else if (random.one_in(30)) {
    const auto* other = program.any(random);
    if (other->kind == Handle::Kind::set) return wait_for_members(program, *handle, random);
    program.trace.add("epoll_wait %d", other->fd);
    program.trace.result(epoll_wait(other->fd, events, 4, 0));
  } else {
    wait_for_members(program, *handle, random);
  }
}

}  // namespace differential
