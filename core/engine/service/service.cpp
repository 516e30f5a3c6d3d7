#include "core/engine/service/service.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <climits>
#include <mutex>
#include <new>
#include <utility>

#include "core/base/exposed.hpp"
#include "core/base/log.hpp"
#include "core/base/numbers.hpp"
#include "core/base/own.hpp"
#include "core/base/signals_blocked.hpp"
#include "core/engine/service/survey.hpp"
#include "core/fabric/shm/dialler.hpp"
#include "core/fabric/verbs/dialler.hpp"

namespace rsock::engine {

using Kind = Events::Kind;

namespace {

constexpr auto kProbe = milliseconds(1000);
constexpr auto kUnsentPause = milliseconds(10);
constexpr auto kCorkTime = milliseconds(200);  // as tcp(7) says of TCP_CORK
constexpr int kEvents = 64;

}  // namespace

std::unique_ptr<Service> Service::start(Engine& engine) {
  std::unique_ptr<Service> service(new Service(engine));
  if (!service->open()) return nullptr;
  const SignalsBlocked here;
  service->programs_mask_ = here.before();
  const int error = pthread_create(&service->thread_, nullptr, &Service::entry, service.get());
  if (error) return nullptr;
  return service;
}

Service::Service(Engine& engine)
    : engine_(engine),
      attending_(engine, events_, timers_),
      deliverance_(engine, at_work, attending_),
      last_thread_(Events::tag(Kind::thread)),
      capturing_(engine),
      children_(engine, events_, timers_),
      budget_(engine.settings.max_pinned),
      owners_(engine),
      fabrics_(
          engine, events_,
          [this](Lane lane, const auto& announce, Reason& why) { return make_dialler(lane, announce, why); },
          [this](auto& source) { attending_.add(source); }),
      rendezvous_(engine, fabrics_, owners_, timers_),
      preparation_(engine, events_, fabrics_),
      operators_(engine),
      room_(engine, at_work, timers_, operators_, *this) {}
// Only one whose thread could not be had goes.
Service::~Service() { (void)engine_.orders.summons().close(); }

void Service::forked() {
  numbers::forked();
  fabric::verbs::library_forked();
  ExposedFd::forked();
}

std::unique_ptr<fabric::Dialler> Service::make_dialler(Lane lane, const fabric::Dialler::Announce& announce,
                                                       Reason& why) {
  const auto doubt = [this](uint64_t id, uid_t user) { return owners_.doubt(id, user); };
  const auto drain = [this] { (void)attending_.poll(); };
  if (lane == Lane::shm)
    return fabric::shm::SocketDialler::make(engine_.lock, budget_, engine_.settings.max_pinned, announce, doubt, why);
  why = Reason::no_device;
  return fabric::verbs::CmDialler::make(engine_.lock, budget_, engine_.settings.device, announce, drain, why);
}

// ---- any thread

void Service::prepare(Lanes lanes) {
  if (pthread_equal(pthread_self(), thread_)) return preparation_.prepare(lanes);
  preparation_.ask(lanes);
}

void Service::watch(Flow& flow) {
  (void)events_.add(flow.shadow(), EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                    Events::tag(Kind::shadow, flow.id()));
}

void Service::unwatch(Flow& flow) { events_.remove(flow.shadow()); }

void Service::await_begin() const {
  constexpr auto kLook = milliseconds(100);
  while (begun_.load(std::memory_order_acquire) == 0) sys::futex_sleep(begun_, 0, kLook);
}

// A filter for all threads would kill one that is on its way out, however short that is.
void Service::retire() {
  constexpr auto kPatience = milliseconds(1000);
  if (deliverance_.retire()) pthread_join(thread_, nullptr);
  (void)ExposedFd::retire(kPatience);
}

void Service::thread_ends(int status) {
  if (last_thread_.ending(status)) engine_.orders.call();
}

// ---- the thread

void* Service::entry(void* self) {
  pthread_setname_np(pthread_self(), "rsock");
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  own::trusted = true;
  auto& service = *static_cast<Service*>(self);
  service.begun_.store(1, std::memory_order_release);
  sys::futex_wake(service.begun_, INT_MAX);
  service.run();
  return nullptr;
}

void Service::run() {
  const auto one_turn = [this](Duration wait) { return take_turn(wait); };
  while (take_turn(patience())) {
    if (deliverance_.is_to_rest()) return rest();
    if (deliverance_.is_to_deliver()) deliverance_.deliver(one_turn);
    if (room_.is_asked()) room_.make();
    if (last_thread_.alone()) deliverance_.end_as_last(last_thread_, programs_mask_, one_turn);
  }
}

// LastThread is asked after a turn, where nothing may be allocated: so its time is no timer.
Duration Service::patience() const {
  if (in_need_) return Duration::zero();
  auto first = timers_.first();
  if (const auto look = last_thread_.due()) first = std::min(*look, first.value_or(*look));
  return first ? std::max(*first - now(), Duration::zero()) : Duration::max();
}

bool Service::take_turn(Duration wait) {
  epoll_event events[kEvents];
  const auto count = events_.sleep(events, wait, engine_.orders.summons());
  if (!count && !count.is(EINTR)) {
    log::error("the service thread cannot wait: errno {}", count.error());
    return false;
  }
  try {
    const std::lock_guard working(at_work);
    for (int i = 0; count && i < *count; ++i) handle(events[i].data.u64, events[i].events);
    if (std::exchange(called_, false)) take_orders();
    children_.look();
    expire();
    attending_.look();
    if (engine_.any_failed) bury();
    in_need_ = false;
  } catch (const std::bad_alloc&) {
    // Even the reserve is used up. What was left undone here is found again in the next turn, or by the
    // program's own calls.
    in_need_ = true;
    constexpr timespec kPause{0, 10'000'000};
    kernel.syscall(SYS_nanosleep, &kPause, nullptr);
  }
  return true;
}

void Service::handle(uint64_t tag, uint32_t events) {
  const auto number = Events::number_of(tag);
  switch (Events::kind_of(tag)) {
    case Kind::dialler: return fabrics_.dispatch(static_cast<Lane>(number), rendezvous_);
    case Kind::control: control_->ready(number); return timers_.put({Due::control}, control_->deadline());
    case Kind::thread: return last_thread_.watched_ended();
    case Kind::child: return children_.called(number);
    case Kind::bell:
    case Kind::shadow:
    case Kind::source: break;
  }
  const std::lock_guard guard(engine_.lock);
  engine_.bury_flows();
  if (Events::kind_of(tag) == Kind::bell) {
    engine_.orders.heard();
    called_ = true;
  } else if (Events::kind_of(tag) == Kind::source) {
    attending_.source_ready();
  } else if (const auto flow = engine_.find_flow(number)) {
    flow->tcp_ready(events);
  }
}

void Service::take_orders() {
  Orders::Lists orders;
  {
    const std::lock_guard guard(engine_.lock);
    orders = engine_.orders.take();
    const auto time = now();
    if (!orders.in_cutover.empty() && !timers_.find({Due::probe})) timers_.set({Due::probe}, time + kProbe);
    // Half the time for a claim, which may have to be made elsewhere yet, and for a reader: the peer waits
    // all of it.
    for (const auto id : orders.in_cutover)
      if (const auto flow = engine_.find_flow(id)) timers_.set({Due::cutover, id}, time + flow->cutover_limit());
    for (const auto id : orders.again)
      if (const auto flow = engine_.find_flow(id)) rendezvous_.again(*flow);
    for (const auto id : orders.corked) timers_.set({Due::cork, id}, time + kCorkTime);
    for (const auto id : orders.unsent) timers_.set({Due::unsent, id}, time + kUnsentPause);
  }
  preparation_.answer();
  if (!orders.expect.empty() || !orders.seek.empty()) kernel_rings_.flow_comes();
  look_for_rings();
  if (!timers_.find({Due::young})) look_at_young();
  for (const auto id : orders.ask_owner) (void)owners_.of(id);
  for (const auto id : orders.expect) rendezvous_.await_peer(id);
  for (const auto id : orders.seek) rendezvous_.find_peer(id);
  for (const auto id : orders.not_wanted) rendezvous_.forget(id);
}

void Service::expire() {
  bool looked = false;
  timers_.expire(now(), [&](Timers::Name timer) {
    if (timer.what == Due::retry && !std::exchange(looked, true)) kernel_rings_.flow_comes(), look_for_rings();
    due(timer);
  });
}

void Service::due(Timers::Name timer) {
  switch (timer.what) {
    case Due::tick: return;  // looked at in each turn
    case Due::rings: return look_for_rings();
    case Due::children: return children_.answer();
    case Due::probe: return probe();
    case Due::young: return look_at_young();
    case Due::room: return room_.look();
    case Due::control: control_->expire(); return timers_.put(timer, control_->deadline());
    case Due::point:
    case Due::dial:
    case Due::sweep:
    case Due::retry: return rendezvous_.due(timer);
    case Due::cutover:
    case Due::cork:
    case Due::unsent: break;
  }
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(timer.id);
  if (flow && timer.what == Due::cutover) flow->give_up();
  if (flow && timer.what == Due::cork) flow->cork_expired();
  if (flow && timer.what == Due::unsent) flow->tcp_ready(0);
}

// A link on which nothing is heard may be dead: nobody would know before somebody sends.
void Service::probe() {
  const std::lock_guard guard(engine_.lock);
  bool any = false;
  for (const auto& link : engine_.links()) any = link->probe_if_silent() || any;
  timers_.put({Due::probe}, any ? std::optional<Time>(now() + kProbe) : std::nullopt);
}

// Those that are there still are worth a lane. Where connections come and go all the time, it looks once for as long as
// one is young.
void Service::look_at_young() {
  const std::lock_guard guard(engine_.lock);
  const auto age = engine_.settings.young;
  const auto look = [this](Young& young, Duration old_enough) {
    for (const auto id : young.take(now() - old_enough))
      if (const auto flow = engine_.find_flow(id)) engine_.is_worth_it(*flow);
    return !young.none();
  };
  const bool more = look(engine_.young_connectors, age) | look(engine_.young_acceptors, 2 * age);
  timers_.put({Due::young}, more ? std::optional(now() + age) : std::nullopt);
}

void Service::look_for_rings() {
  const bool found = kernel_rings_.found();
  timers_.put({Due::rings}, kernel_rings_.due());
  if (!found) return;
  log::warning("the program has a ring of io_uring: its flows stay on TCP");
  const std::lock_guard guard(engine_.lock);
  engine_.forgo_lanes(Reason::io_uring);
}

void Service::bury() {
  std::vector<std::unique_ptr<Link>> dead;
  {
    const std::lock_guard guard(engine_.lock);
    dead = engine_.take_dead_links();
    engine_.bury_flows();
  }
  fabrics_.bury(std::move(dead));
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
  deliverance_.rest();
}

// ---- what makes room

void Service::clear_up() {
  {
    const std::lock_guard guard(engine_.lock);
    (void)attending_.poll();
  }
  bury();
}

bool Service::leave() {
  rendezvous_.give_up();
  return fabrics_.leave_near() && !fabrics_.find(Lane::rdma);
}

// Nothing is heard, and nobody is, until it opens again.
bool Service::shut() {
  {
    const std::lock_guard guard(engine_.lock);
    if (absent()) return true;
    if (!engine_.orders.summons().close()) return false;
    attending_.stop();
    engine_.dissolve_family();
    last_thread_.watch_by(-1);
    kernel_rings_.close();
  }
  control_.reset();
  children_.dismiss();
  for (const auto what : {Due::control, Due::rings}) timers_.cancel({what});
  const std::lock_guard guard(engine_.lock);
  events_.close();
  return true;
}

bool Service::open() {
  if (!events_.open(engine_.orders.summons())) return false;
  control_ = Control::open(events_.set(), Events::tag(Kind::control), [this](const auto& request, uid_t user) {
    if (request.order == wire::Order::capture) return capturing_.begin(request, user);
    return Control::Reply{.packet = asks_for_page(request.order) ? encode(survey(engine_, request))
                                                                 : encode(operators_.obey(request))};
  });
  last_thread_.watch_by(events_.set());
  kernel_rings_.open();
  return true;
}

}  // namespace rsock::engine
