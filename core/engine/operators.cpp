// What operators may ask of a process: where its flows are, that they leave their lanes, that they may enter again, and that the
// rules are read anew.

#include <algorithm>
#include <map>

#include "core/base/log.hpp"
#include "core/engine/service.hpp"

namespace rsock::engine {
namespace {

bool concerns(const Flow& flow, uint16_t port) {
  return flow.selected() && !flow.finished() && (port == 0 || flow.local().port == port || flow.remote().port == port);
}

bool concerns(const Flow& flow, const wire::ControlRequest& request) {
  return request.order == wire::Order::hand_over ? sys::cookie(flow.shadow()) == request.socket : concerns(flow, request.port);
}

std::vector<std::shared_ptr<Flow>> concerned(const Engine& engine, uint16_t port) {
  std::vector<std::shared_ptr<Flow>> found;
  for (const auto& [id, flow] : engine.flows())
    if (concerns(*flow, port)) found.push_back(flow);
  return found;
}

void count(const Flow& flow, wire::FlowCounts& counts) {
  switch (flow.stage()) {
    case Stage::tcp: ++counts.tcp; return;
    case Stage::entering: ++counts.entering; return;
    case Stage::leaving: ++counts.leaving; return;
    case Stage::lane: ++(flow.lane() == Lane::shm ? counts.shm : counts.rdma); return;
  }
}

}  // namespace

// All of them before anything is waited for. What is on TCP already is kept there by the gate; what its program has closed leaves
// as soon as its bytes are delivered.
size_t Engine::send_away(uint16_t port) {
  gate.set(false, port);
  size_t moved = 0;
  for (const auto& flow : concerned(*this, port)) {
    const auto stage = flow->stage();
    if (stage != Stage::lane && stage != Stage::entering) continue;
    flow->step_aside();
    ++moved;
  }
  return moved;
}

// An acceptor that was used looks for its peer, a connector that was announced waits for it, as after the first use. Those that
// are not quite back on TCP yet do so a little later.
size_t Engine::call_back(uint16_t port) {
  gate.set(true, port);
  size_t moved = 0;
  for (const auto& flow : concerned(*this, port)) {
    if (!(flow->role() == Role::acceptor ? flow->used : flow->expected)) continue;
    if (flow->eligible()) {
      flow->seek_again();
      flow->role() == Role::acceptor ? seek(*flow) : expect(*flow);
    } else if (flow->lost_lane() && flow->not_yet() && flow->stage() != Stage::lane) {
      again(*flow);
    } else {
      continue;
    }
    ++moved;
  }
  return moved;
}

// Somebody has its descriptor who is not known here.
size_t Engine::hand_over(uint64_t socket) {
  std::vector<std::shared_ptr<Flow>> found;
  for (const auto& [id, flow] : flows())
    if (sys::cookie(flow->shadow()) == socket) found.push_back(flow);
  for (const auto& flow : found) flow->leave(Reason::shared);
  return found.size();
}

wire::ControlAnswer Service::obey(const wire::ControlRequest& request) {
  wire::ControlAnswer answer;
  answer.process = static_cast<uint32_t>(sys::process_id());
  answer.program = engine_.program.name;
  if (request.order == wire::Order::reload) {
    const auto done = engine_.program.reload();
    answer.moved = static_cast<uint32_t>(done.leave);
    answer.refused = !done.complaint.empty();
    answer.complaint = done.complaint;
  }
  const std::lock_guard guard(engine_.lock);
  if (request.order == wire::Order::leave) answer.moved = static_cast<uint32_t>(engine_.send_away(request.port));
  if (request.order == wire::Order::enter) answer.moved = static_cast<uint32_t>(engine_.call_back(request.port));
  if (request.order == wire::Order::hand_over) answer.moved = static_cast<uint32_t>(engine_.hand_over(request.socket));
  if (request.order != wire::Order::tell)
    log::info("an operator's command (order {}, port {}) moves {} flows", static_cast<int>(request.order), request.port, answer.moved);
  engine_.bury_flows();
  std::map<Reason, uint32_t> stay;
  for (const auto& [id, flow] : engine_.flows()) {
    if (!concerns(*flow, request)) continue;
    count(*flow, answer.flows);
    if (flow->stage() == Stage::tcp && flow->settled_for()) ++stay[*flow->settled_for()];
  }
  for (const auto& [reason, flows] : stay) answer.stay.push_back({std::string(key(reason)), flows});
  return answer;
}

}  // namespace rsock::engine
