#include "core/engine/service/survey.hpp"

#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/statistics.hpp"

namespace rsock::engine {
namespace {

using nlohmann::ordered_json;
using wire::ControlPage;
using wire::ControlRequest;

constexpr size_t kMostLooked = 256;  // flows, while the lock is held
constexpr size_t kMostRows = 48;     // more have no room on a page

std::string_view name(Stage stage, Lane lane) {
  switch (stage) {
    case Stage::tcp: return kLaneNames[static_cast<size_t>(Lane::tcp)];
    case Stage::entering: return "entering";
    case Stage::leaving: return "leaving";
    case Stage::lane: return kLaneNames[static_cast<size_t>(lane)];
  }
  return {};
}

// Why it is on TCP, as far as that is known.
std::optional<Reason> why_on_tcp(const Engine& engine, const Flow& flow) {
  if (flow.stage() != Stage::tcp) return {};
  if (flow.settled_for()) return flow.settled_for();
  if (flow.admitted()) return {};
  return engine.gate.barred() ? Reason::descriptors : Reason::by_operator;
}

struct FlowSeen {
  uint64_t id;
  Stage stage;
  Lane lane;
  Role role;
  Endpoint local, remote;
  Flow::Traffic traffic;
  uint64_t link;  // 0: none
  Duration age;
  std::optional<Reason> why;
  uint64_t number() const { return id; }
};

ordered_json row(const FlowSeen& seen) {
  ordered_json row{
      {"id", seen.id},
      {"lane", name(seen.stage, seen.lane)},
      {"role", seen.role == Role::acceptor ? "accepted" : "connected"},
      {"local", to_string(seen.local)},
      {"peer", to_string(seen.remote)},
      {"bytes_in", seen.traffic.in},
      {"bytes_out", seen.traffic.out},
      {"full", seen.traffic.full},
      {"age_seconds", static_cast<double>(std::chrono::duration_cast<milliseconds>(seen.age).count()) / 1000}};
  if (seen.link != 0) {
    row["link"] = seen.link;
    row["ring_in"] = seen.traffic.ring_in;
    row["ring_out"] = seen.traffic.ring_out;
  }
  if (seen.why) row["why"] = key(*seen.why);
  return row;
}

struct LinkSeen {
  uint64_t id;
  Lane lane;
  std::string peer;
  Link::Load load;
  fabric::Connection::Holding holding;
  uint64_t number() const { return id; }
};

ordered_json row(const LinkSeen& seen) {
  ordered_json row{{"id", seen.id},
                   {"lane", kLaneNames[static_cast<size_t>(seen.lane)]},
                   {"peer", seen.peer},
                   {"flows", seen.load.flows},
                   {"credits", seen.load.credits},
                   {"memory", seen.holding.memory},
                   {"returns", seen.load.returns}};
  if (!seen.holding.device.empty()) row["device"] = seen.holding.device;
  if (seen.holding.largest_inline > 0) row["inline"] = seen.holding.largest_inline;
  return row;
}

// As many as there is room for: the next page begins behind the last of them. `rest`: there are more than
// those.
template <class Seen>
ControlPage page_of(const std::vector<Seen>& all, uint64_t last, bool rest) {
  ControlPage page;
  for (const auto& seen : all) {
    const auto line = row(seen).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
    if (page.text.size() + line.size() > wire::kControlTextMost) return page;
    page.text += line;
    page.next = seen.number();
  }
  page.next = rest ? last : 0;
  return page;
}

bool concerns(const Flow& flow, uint16_t port) {
  return flow.selected() && !flow.finished() && (port == 0 || flow.local().port == port || flow.remote().port == port);
}

ControlPage flows(Engine& engine, const ControlRequest& request) {
  std::vector<FlowSeen> found;
  found.reserve(kMostRows);
  const auto time = now();
  uint64_t last = request.number;
  bool rest = false;
  {
    const std::lock_guard guard(engine.lock);
    auto at = engine.flows().upper_bound(request.number);
    for (size_t looked = 0; at != engine.flows().end() && looked < kMostLooked && found.size() < kMostRows;
         ++at, ++looked) {
      const auto& flow = *at->second;
      last = at->first;
      if (!concerns(flow, request.port)) continue;
      found.push_back({flow.id(), flow.stage(), flow.lane(), flow.role(), flow.local(), flow.remote(), flow.traffic(),
                       flow.link() ? flow.link()->id() : 0, time - flow.since(), why_on_tcp(engine, flow)});
    }
    rest = at != engine.flows().end();
  }
  return page_of(found, last, rest);
}

ControlPage links(Engine& engine, const ControlRequest& request) {
  std::vector<LinkSeen> found;
  bool rest = false;
  {
    const std::lock_guard guard(engine.lock);
    for (const auto& link : engine.links()) {
      if (link->id() <= request.number || !link->alive()) continue;
      if (rest = found.size() == kMostRows; rest) break;
      found.push_back({link->id(), link->lane(), to_string(link->peer()), link->load(), link->connection().holding()});
    }
  }
  return page_of(found, found.empty() ? 0 : found.back().id, rest);
}

}  // namespace

ControlPage survey(Engine& engine, const ControlRequest& request) {
  if (request.order == wire::Order::flows) return flows(engine, request);
  if (request.order == wire::Order::links) return links(engine, request);
  return {.text = statistics.to_json(engine.program.name)};
}

}  // namespace rsock::engine
