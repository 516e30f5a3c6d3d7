// What a flow is to those around it: its stage, who hears of it, and whether it may enter a lane.

#include "core/engine/flow.hpp"

#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/reserve.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::State;

Flow::Flow(Engine& engine, uint64_t id, Role role, int fd)
    : engine_(engine),
      id_(id),
      role_(role),
      socket_(fd),
      terms_(role == Role::connector ? keys::Side::connector : keys::Side::acceptor) {}

Flow::~Flow() = default;

Stage Flow::stage() const {
  const auto without_lane = binding_.link() ? Stage::leaving : Stage::tcp;
  if (over()) return without_lane;
  switch (state()) {
    case State::tcp:
    case State::broken:
    case State::yielded: return without_lane;  // raw both ways: only C's mark may be on its way
    case State::claimed:
    case State::accepted:
    case State::confirmed:
    case State::shown:
    case State::answered: return closing() ? Stage::leaving : Stage::entering;
    case State::lane: return closing() ? Stage::leaving : Stage::lane;
    case State::shown_resuming:
    case State::resuming: return Stage::leaving;
  }
  return Stage::tcp;
}

Flow::Traffic Flow::traffic() const {
  Traffic traffic{socket_.raw_in() + binding_.carried_in(), socket_.raw_out() + binding_.carried_out(),
                  seen_.times_full};
  if (seen_.passed) {
    traffic.in += seen_.passed->in.load(std::memory_order_relaxed);
    traffic.out += seen_.passed->out.load(std::memory_order_relaxed);
  }
  if (binding_.link()) traffic.ring_in = binding_.rx.size(), traffic.ring_out = binding_.tx.size();
  return traffic;
}

void Flow::note_passed(const Passed* passed) { seen_.passed = passed; }

bool Flow::kernel_follows() const {
  return (state() == State::tcp || state() == State::claimed) && !socket_.owes() && !terms_.mark_ahead() &&
         !ends_.failed();
}

bool Flow::on_kernel() const { return kernel_follows() && unread_.size() == 0; }

// ---- who hears of it

void Flow::unobserve(Observer& observer) { std::erase(observers_, &observer); }

void Flow::changed(uint32_t what) {
  if (observers_.size() == 1) return observers_.front()->flow_changed(*this, what);
  // An observer may go while it is told.
  const auto observers = observers_;
  for (auto* observer : observers) observer->flow_changed(*this, what);
}

Flow::Change::Change(Flow& flow) : flow_(flow) {
  if (flow_.observers_.empty()) return;
  ready_ = flow_.readiness();
  readable_ = flow_.readable_bytes();
}

Flow::Change::~Change() {
  if (flow_.observers_.empty()) return;
  const auto came = (flow_.readiness() & ~ready_) | (flow_.readable_bytes() > readable_ ? EPOLLIN : 0u);
  flow_.changed(came & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? kAnything : came);
}

// ---- whether it may enter a lane

void Flow::select(Lanes lanes) {
  candidacy_.select(lanes);
  seen_.since = now();
  statistics.flows[Lane::tcp].add();
}

bool Flow::eligible() const {
  return free_to_enter() && admitted() && !engine_.forgone() && !reserve::short_of_memory();
}

bool Flow::admitted() const { return engine_.gate.admits(local_.port, remote_.port); }

bool Flow::free_to_enter() const {
  return selected() && state() == State::tcp && !settled() && !departure_.leaving() && !binding_.link() &&
         !calls_.close_due && !half_closed() && on_kernel() && !awaits_rest();
}

void Flow::settle(Reason reason) {
  if (!candidacy_.settle(reason)) return;
  statistics.fell_back(reason);
  log::info("flow {} to {} stays on TCP: {}", to_string(local_), to_string(remote_), key(reason));
  engine_.settled(*this);
  tell_family();
}

bool Flow::ensure_anchor() {
  if (!socket_.make_anchor()) return false;
  if (socket_.begin_watch()) engine_.watch(*this);
  return true;
}

// Whoever waits for the flow asks the kernel about the number that goes, and has to ask about another.
bool Flow::gives_anchor_back() {
  if (!socket_.anchored()) return true;
  stop_watching();
  const bool needed = socket_.watched() || closing() || calls_.close_due || binding_.link();
  if (needed || state() != State::tcp || !kernel_follows()) return false;
  socket_.give_anchor_back();
  changed(0);
  return true;
}

// While the kernel serves it alone, its bytes are no business of the service's. Nor is a connection that is
// no more: what has come of it is known, and would be an edge too many if it were told again.
void Flow::stop_watching() {
  if (!socket_.anchored() || !socket_.watched() || closing() || binding_.link() || state() != State::tcp ||
      !kernel_follows())
    return;
  if (unread_.size() > 0 && !(socket_.readiness() & EPOLLHUP)) return;
  socket_.end_watch();
  engine_.unwatch(*this);
}

// The offsets that a cutover rests on are counted here. Where the kernel has counted otherwise, the flow is
// not ours to move.
std::optional<Reason> Flow::unfit() const {
  if (socket_.asks_for_segments()) return Reason::unserved_call;
  switch (socket_.compare_with_kernel(role_ == Role::connector)) {
    case ShadowSocket::Count::agrees: return {};
    case ShadowSocket::Count::differs: return Reason::shared;
    case ShadowSocket::Count::half_closed: return Reason::short_lived;
    case ShadowSocket::Count::unknown: return Reason::link_failed;
  }
  return {};
}

bool Flow::may_use(const Link& link) {
  const auto user = link.user();
  if (!user) return true;
  if (peer_user_) return *peer_user_ == *user;
  const auto owner = diagnosed_owner(own_end());
  if (owner) peer_user_ = *owner;
  return owner && *owner == *user;
}

void Flow::not_served(Reason reason) {
  // The device went while the first lane of the flow was looked for: what is lacking now was there a moment
  // ago.
  const bool device_is_away = candidacy_.wanted().rdma && engine_.had_device() &&
                              (reason == Reason::no_device || reason == Reason::link_failed);
  if (candidacy_.not_served(reason, device_is_away) == Candidacy::Next::settle) return settle(reason);
  engine_.again(*this);
}

void Flow::not_now() {
  candidacy_.not_now();
  engine_.again(*this);
}

Duration Flow::pause() const {
  const auto pause = candidacy_.pause();
  return role_ == Role::connector ? pause / 2 : pause;  // its point should be there when it is dialled
}

}  // namespace rsock::engine
