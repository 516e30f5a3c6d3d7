#include "core/engine/service/operators.hpp"

#include <map>
#include <mutex>

#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

bool concerns(const Flow& flow, uint16_t port) {
  return flow.selected() && !flow.finished() && (port == 0 || flow.local().port == port || flow.remote().port == port);
}

bool concerns(const Flow& flow, const wire::ControlRequest& request) {
  return request.order == wire::Order::hand_over ? sys::cookie(flow.shadow()) == request.number
                                                 : concerns(flow, request.port);
}

// Whoever reads a descriptor that it took must not find what is not the program's: a token may come where
// this end has given up, and its peer has not heard of that yet.
bool is_leaving(const Flow& flow, wire::Order order) {
  return order == wire::Order::hand_over && flow.state() == flow::State::yielded;
}

void count(const Flow& flow, wire::Order order, wire::FlowCounts& counts) {
  switch (is_leaving(flow, order) ? Stage::leaving : flow.stage()) {
    case Stage::tcp: ++counts.tcp; return;
    case Stage::entering: ++counts.entering; return;
    case Stage::leaving: ++counts.leaving; return;
    case Stage::lane: ++(flow.lane() == Lane::shm ? counts.shm : counts.rdma); return;
  }
}

}  // namespace

std::vector<std::shared_ptr<Flow>> Operators::concerned(const wire::ControlRequest& request) const {
  std::vector<std::shared_ptr<Flow>> found;
  for (const auto& [id, flow] : engine_.flows())
    if (concerns(*flow, request)) found.push_back(flow);
  return found;
}

// All of them before anything is waited for. What is on TCP already is kept there by the gate; what its
// program has closed leaves as soon as its bytes are delivered.
size_t Operators::send_away(uint16_t port) {
  engine_.gate.set(false, port);
  size_t moved = 0;
  for (const auto& flow : concerned({.port = port})) {
    const auto stage = flow->stage();
    if (stage != Stage::lane && stage != Stage::entering) continue;
    flow->step_aside(Reason::by_operator);
    ++moved;
  }
  return moved;
}

// An acceptor looks for its peer, a connector waits for it, as when they had shown what they are worth; the young ones
// do so by themselves. Those that are not quite back on TCP yet do so a little later.
size_t Operators::look_again(uint16_t port) {
  size_t moved = 0;
  for (const auto& flow : concerned({.port = port})) {
    if (!flow->candidacy().worth()) continue;
    if (flow->eligible()) {
      flow->candidacy().seek_again();
      flow->role() == Role::acceptor ? engine_.seek(*flow) : engine_.expect(*flow);
    } else if (flow->lost_lane() && flow->not_yet() && flow->stage() != Stage::lane) {
      engine_.again(*flow);
    } else {
      continue;
    }
    ++moved;
  }
  return moved;
}

// Somebody has its descriptor who is not known here.
size_t Operators::hand_over(uint64_t socket) {
  const auto found = concerned({wire::Order::hand_over, 0, socket});
  for (const auto& flow : found) flow->leave(Reason::shared);
  return found.size();
}

// How many flows that sets moving.
size_t Operators::move(const wire::ControlRequest& request) {
  switch (request.order) {
    case wire::Order::leave: return send_away(request.port);
    case wire::Order::enter: return engine_.gate.set(true, request.port), look_again(request.port);
    case wire::Order::hand_over: return hand_over(request.number);
    case wire::Order::tell:
    case wire::Order::reload:
    case wire::Order::flows:
    case wire::Order::links:
    case wire::Order::statistics:
    case wire::Order::capture: return 0;
  }
  return 0;
}

wire::ControlAnswer Operators::obey(const wire::ControlRequest& request) {
  wire::ControlAnswer answer;
  answer.process = static_cast<uint32_t>(sys::process_id());
  answer.program = engine_.program.name;
  size_t moved = 0;
  if (request.order == wire::Order::reload) {
    const auto done = engine_.program.reload();
    moved = done.leave;
    answer.refused = !done.complaint.empty();
    answer.complaint = done.complaint;
  }
  const std::lock_guard guard(engine_.lock);
  moved += move(request);
  answer.moved = static_cast<uint32_t>(moved);
  if (request.order != wire::Order::tell)
    log::info("an operator's command (order {}, port {}) moves {} flows", static_cast<int>(request.order), request.port,
              moved);
  engine_.bury_flows();
  std::map<Reason, uint32_t> stay;
  for (const auto& flow : concerned(request)) {
    count(*flow, request.order, answer.flows);
    if (flow->stage() == Stage::tcp && flow->settled_for()) ++stay[*flow->settled_for()];
  }
  for (const auto& [reason, flows] : stay) answer.stay.push_back({std::string(key(reason)), flows});
  return answer;
}

}  // namespace rsock::engine
