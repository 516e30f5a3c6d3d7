#include "core/engine/service.hpp"

#include <csignal>
#include <sys/epoll.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>

#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

constexpr auto kTick = milliseconds(10);
constexpr auto kProbe = milliseconds(1000);
constexpr auto kPreparation = milliseconds(1000);
constexpr auto kCorkTime = milliseconds(200);  // as tcp(7) says of TCP_CORK
constexpr int kEvents = 64;

// What a descriptor of the service's epoll set is: the kind above, the flow or the source below.
enum class Kind : uint64_t { bell, dialler, shadow, source, control };
constexpr int kKindShift = 56;
constexpr uint64_t tag(Kind kind, uint64_t number = 0) { return static_cast<uint64_t>(kind) << kKindShift | number; }
constexpr Kind kind_of(uint64_t tag) { return static_cast<Kind>(tag >> kKindShift); }
constexpr uint64_t number_of(uint64_t tag) { return tag & ((1ull << kKindShift) - 1); }

Status add(int set, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return sys::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

std::unique_ptr<Service> Service::start(Engine& engine) {
  std::unique_ptr<Service> service(new Service(engine));
  auto epoll = out_of_the_way(sys::epoll_create());
  if (!epoll) return nullptr;
  service->epoll_ = std::move(*epoll);
  auto bell = out_of_the_way(sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!bell) return nullptr;
  service->bell_ = std::move(*bell);
  if (!add(service->epoll_.get(), service->bell_.get(), EPOLLIN, tag(Kind::bell))) return nullptr;

  service->control_ =
      Control::open(service->epoll_.get(), tag(Kind::control), [it = service.get()](const auto& request) { return it->obey(request); });

  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(&service->thread_, nullptr, &Service::entry, service.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error) return nullptr;
  pthread_detach(service->thread_);
  return service;
}

Service::Service(Engine& engine) : engine_(engine), budget_(engine.settings.max_pinned) {}
Service::~Service() = default;

void* Service::entry(void* self) {
  pthread_setname_np(pthread_self(), "rsock");
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  own::trusted = true;
  static_cast<Service*>(self)->run();
  return nullptr;
}

void Service::wake() {
  if (rung_) return;
  rung_ = true;
  const uint64_t one = 1;
  (void)sys::write(bell_.get(), &one, sizeof one);
}

void Service::prepare(Lanes lanes) {
  if (pthread_equal(pthread_self(), thread_)) return prepare_now(lanes);
  auto& it = preparation_;
  std::unique_lock lock(it.lock);
  lanes = lanes - it.ever;
  if (!lanes.any()) return;
  it.ever = it.ever | lanes;
  it.wanted = it.wanted | lanes;
  const auto mine = ++it.asked;
  {
    const std::lock_guard guard(engine_.lock);
    wake();
  }
  it.done.wait_for(lock, kPreparation, [&] { return it.answered >= mine; });
}

void Service::prepare_now(Lanes lanes) {
  for (const auto lane : {Lane::shm, Lane::rdma})
    if (Reason why; lanes.has(lane) && !dialler_of(lane, why))
      log::info("no {} here for now: {}", kLaneNames[static_cast<size_t>(lane)], key(why));
}

void Service::prepare_what_is_asked() {
  auto& it = preparation_;
  std::unique_lock lock(it.lock);
  if (it.answered == it.asked) return;
  const auto asked = it.asked;
  const auto wanted = std::exchange(it.wanted, {});
  lock.unlock();
  prepare_now(wanted);
  lock.lock();
  it.answered = asked;
  it.done.notify_all();
}

void Service::seek(uint64_t flow) { seek_.push_back(flow), wake(); }
void Service::expect(uint64_t flow) { expect_.push_back(flow), wake(); }
void Service::again(uint64_t flow) { again_.push_back(flow), wake(); }
void Service::not_wanted(uint64_t flow) { not_wanted_.push_back(flow), wake(); }

void Service::in_cutover(uint64_t flow) { in_cutover_.push_back(flow), wake(); }

void Service::corked(uint64_t flow) { corked_.push_back(flow), wake(); }

void Service::unwatch(Flow& flow) {
  epoll_event none{};
  (void)sys::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, flow.shadow(), &none);
}

void Service::watch(Flow& flow) {
  (void)add(epoll_.get(), flow.shadow(), EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET, tag(Kind::shadow, flow.id()));
}

void Service::run() {
  while (turn(patience())) {
    if (work_ == Work::is_to_rest) rest();
    if (work_ == Work::is_to_deliver) deliver();
  }
}

bool Service::turn(Duration wait) {
  epoll_event events[kEvents];
  const auto timeout = wait == Duration::max() ? -1 : static_cast<int>(std::chrono::ceil<milliseconds>(wait).count());
  const auto count = sys::epoll_sleep(epoll_.get(), events, kEvents, timeout);
  if (!count && !count.is(EINTR)) {
    log::error("the service thread cannot wait: errno {}", count.error());
    return false;
  }
  const std::lock_guard working(at_work);
  for (int i = 0; count && i < *count; ++i) handle(events[i].data.u64, events[i].events);
  if (std::exchange(called_, false)) take_orders();
  expire();
  if (control_) control_->expire();
  attend();
  if (engine_.any_failed) bury();
  return true;
}

void Service::deliver() {
  constexpr auto kTurn = milliseconds(2);
  const auto deadline = now() + engine_.settings.drain;
  std::vector<std::shared_ptr<Flow>> flows;
  {
    const std::scoped_lock all(at_work, engine_.lock);
    for (const auto& [id, flow] : engine_.flows()) flows.push_back(flow);
    for (const auto& flow : flows) flow->close(false);
  }
  const auto done = [&] {
    const std::lock_guard guard(engine_.lock);
    (void)poll();
    return std::all_of(flows.begin(), flows.end(), [](const auto& flow) { return flow->finished(); });
  };
  while (!done() && now() < deadline && turn(kTurn)) {
  }
  engine_.program.ended();
  work_done(Work::delivered);
}

void Service::deliver_all() {
  constexpr auto kSlack = milliseconds(200);
  const auto deadline = now() + engine_.settings.drain + kSlack;
  auto expected = Work::goes_on;
  if (work_.compare_exchange_strong(expected, Work::is_to_deliver)) {
    const uint64_t one = 1;
    (void)sys::write(bell_.get(), &one, sizeof one);
  }
  wait_while(Work::is_to_deliver, deadline);
}

void Service::wait_while(Work what, Time deadline) {
  constexpr timespec kTurn{0, 50'000'000};
  while (work_ == what && now() < deadline) kernel.syscall(SYS_futex, &work_, FUTEX_WAIT, what, &kTurn, nullptr, 0);
}

void Service::work_done(Work what) {
  work_ = what;
  kernel.syscall(SYS_futex, &work_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Service::rest() {
  {
    const std::lock_guard working(at_work);
    control_.reset();
    {
      const std::lock_guard guard(engine_.lock);
      for (const auto& link : engine_.links()) link->fail(Reason::unserved_call);
    }
    bury();
  }
  work_done(Work::rests);
  for (;;) kernel.syscall(SYS_futex, &work_, FUTEX_WAIT, Work::rests, nullptr, nullptr, 0);
}

void Service::retire() {
  constexpr auto kPatience = milliseconds(1000);
  const auto deadline = now() + kPatience;
  auto expected = Work::goes_on;
  if (work_.compare_exchange_strong(expected, Work::is_to_rest)) {
    const std::lock_guard guard(engine_.lock);
    wake();
  }
  wait_while(Work::is_to_rest, deadline);
  // It says that it rests before the system call in which it does, and a filter for all threads would kill it there. So it is moved
  // to a futex of its own, which can only be done once it sleeps.
  while (work_ == Work::rests && !at_rest_ && now() < deadline) {
    if (kernel.syscall(SYS_futex, &work_, FUTEX_CMP_REQUEUE, 0, 1, &resting_place_, Work::rests) == 1)
      at_rest_ = true;
    else
      sched_yield();
  }
}

void Service::handle(uint64_t data, uint32_t events) {
  if (kind_of(data) == Kind::dialler) return fabrics_[number_of(data)].dialler->dispatch(*this);
  if (kind_of(data) == Kind::control) return control_->ready(number_of(data));
  const std::lock_guard guard(engine_.lock);
  engine_.bury_flows();
  switch (kind_of(data)) {
    case Kind::bell: {
      uint64_t count;
      (void)sys::read(bell_.get(), &count, sizeof count);
      rung_ = false;
      called_ = true;
      return;
    }
    case Kind::shadow:
      if (const auto flow = engine_.find_flow(number_of(data))) flow->tcp_ready(events);
      return;
    case Kind::source:
      taken_over_ = engine_.guarded = false;
      engine_.acknowledge();
      poll();
      return;
    case Kind::dialler:
    case Kind::control: return;
  }
}

void Service::take_orders() {
  std::vector<uint64_t> seek, expect, not_wanted;
  {
    const std::lock_guard guard(engine_.lock);
    engine_.answer_family();
    if (!in_cutover_.empty() && !next_probe_) next_probe_ = now() + kProbe;
    // Half the time for a claim, which may have to be made elsewhere yet, and for a reader: the peer waits all of it.
    for (const auto id : std::exchange(in_cutover_, {}))
      if (const auto flow = engine_.find_flow(id))
        cutovers_[id] = now() + engine_.settings.dial / (flow->claims() || flow->holds_back() ? 2 : 1);
    for (const auto id : std::exchange(again_, {}))
      if (const auto flow = engine_.find_flow(id)) retries_[id] = now() + flow->pause();
    for (const auto id : std::exchange(corked_, {})) corks_[id] = now() + kCorkTime;
    seek.swap(seek_), expect.swap(expect_), not_wanted.swap(not_wanted_);
  }
  prepare_what_is_asked();
  for (const auto id : expect) open_point(id);
  for (const auto id : seek) find_peer(id);
  for (const auto id : not_wanted)
    if (points_.erase(id) > 0) close_point(id);
}

void Service::attend() {
  next_tick_.reset();
  if (!engine_.any_links) return;
  const auto polls = engine_.polls - own_polls_;
  const bool quiet = polls == std::exchange(seen_polls_, polls);
  // While application threads are awake and poll they are not disturbed, not even by a look at the lock.
  if (!quiet && engine_.asleep == 0 && !relaxed_) {
    next_tick_ = now() + kTick;
    return;
  }
  const std::lock_guard guard(engine_.lock);
  relaxed_ = false;
  bool empty = true;
  // Whoever sleeps on the sources relies on their being armed, whoever took the last event.
  if (engine_.asleep > 0) {
    engine_.arm();
    empty = poll();
  }
  if (engine_.asleep > 0 && quiet) {
    relaxed_ = true;
  } else if (quiet) {
    if (!taken_over_) {
      taken_over_ = true;
      for (size_t i = 0; i < engine_.sources().size(); ++i) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLONESHOT;
        event.data.u64 = tag(Kind::source, i);
        (void)sys::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, engine_.sources()[i], &event);
      }
    }
    engine_.guarded = true;
    engine_.arm();
    empty = poll();
    relaxed_ = true;
  } else {
    next_tick_ = now() + kTick;
  }
  if (!empty) next_tick_ = now();
}

// Until nothing is left: what came before an arming gives no event. False if something may be.
bool Service::poll() {
  engine_.flush();
  const uint64_t before = engine_.polls;
  const bool empty = engine_.drain();
  own_polls_ += engine_.polls - before;
  return empty;
}

void Service::bury() {
  std::vector<std::unique_ptr<Link>> dead;
  {
    const std::lock_guard guard(engine_.lock);
    dead = engine_.take_dead_links();
    engine_.bury_flows();
  }
  for (auto& link : dead) dialler_of(link->lane())->bury(link->take_connection());
}

// A link on which nothing is heard may be dead: nobody would know before somebody sends.
void Service::probe() {
  const std::lock_guard guard(engine_.lock);
  bool any = false;
  for (const auto& link : engine_.links()) any = link->probe_if_silent() || any;
  next_probe_.reset();
  if (any) next_probe_ = now() + kProbe;
}

void Service::announced(fabric::Completions& source) {
  const std::lock_guard guard(engine_.lock);
  const auto number = engine_.completions().size();
  engine_.add_source(source);
  (void)add(epoll_.get(), source.fd(), EPOLLONESHOT, tag(Kind::source, number));
  taken_over_ = false;
}

void Service::look_after_dialler(Lane lane) {
  (void)add(epoll_.get(), dialler_of(lane)->fd(), EPOLLIN, tag(Kind::dialler, static_cast<uint64_t>(lane)));
}

Duration Service::patience() {
  auto first = next_tick_;
  const auto consider = [&](Time time) {
    if (!first || time < *first) first = time;
  };
  if (const auto deadline = control_ ? control_->deadline() : std::nullopt) consider(*deadline);
  for (const auto& [id, point] : points_)
    if (const auto next = point.due(); next != Time::max()) consider(next);
  if (next_probe_) consider(*next_probe_);
  for (const auto& [id, due] : retries_) consider(due);
  for (const auto& [id, ends] : cutovers_) consider(ends);
  for (const auto& [id, ends] : corks_) consider(ends);
  for (auto& [address, peer] : peers_) {
    if (peer.dialling)
      consider(peer.dial_ends);
    else if (!peer.waiting.empty())
      consider(next_dial(peer));
    if (!peer.waiting.empty()) consider(peer.next_sweep);
  }
  if (!first) return Duration::max();
  return std::max(*first - now(), Duration::zero());
}

}  // namespace rsock::engine
