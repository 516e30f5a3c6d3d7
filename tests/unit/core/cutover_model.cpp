#include "cutover_model.hpp"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "cutover_world.hpp"

namespace rsock::flow::model {
namespace {

std::string describe(const Queue& queue) {
  std::string text;
  for (size_t i = 0; i < queue.size; ++i)
    text += fmt::format(" {}{}", kKindNames[queue.items[i] >> 4], queue.items[i] & 15u);
  return text;
}

std::string describe(Move move, const Joint& joint) {
  constexpr std::array<std::string_view, 12> kVerbs{"claims",         "writes",
                                                    "reads TCP",      "looks ahead",
                                                    "reads the link", "puts a message off",
                                                    "goes on",        "refuses the claim",
                                                    "(link)",         "(queue)",
                                                    "notices",        "leaves"};
  std::string text;
  if (move.verb == Verb::die)
    text = fmt::format("link {} dies", move.attempt);
  else if (move.verb == Verb::lose)
    text = fmt::format("link {} loses what was to reach {}", move.attempt, kEndNames[move.end]);
  else
    text = fmt::format("{} {}", kEndNames[move.end], kVerbs[static_cast<size_t>(move.verb)]);
  text = fmt::format("  {:34} C {:14} S {:14}", text, name(joint.ends[kC].state), name(joint.ends[kS].state));
  for (const auto end : {kC, kS}) {
    text += fmt::format(" | to {}: tcp{}", kEndNames[end], describe(joint.tcp[end]));
    for (size_t i = 0; i < kAttempts; ++i)
      if (joint.links[i][end].size) text += fmt::format(", link {}{}", i + 1, describe(joint.links[i][end]));
  }
  return text + "\n";
}

const std::vector<Move>& all_moves() {
  static const auto moves = [] {
    std::vector<Move> made{{Verb::claim, kS, 0}};
    for (const uint8_t end : {0, 1}) {
      for (const auto verb : {Verb::read_tcp, Verb::look_ahead, Verb::write, Verb::go_on, Verb::leave})
        made.push_back({verb, end, 0});
      for (uint8_t attempt = 1; attempt <= kAttempts; ++attempt)
        for (const auto verb : {Verb::read_link, Verb::put_off, Verb::lose, Verb::notice})
          made.push_back({verb, end, attempt});
    }
    for (uint8_t attempt = 1; attempt <= kAttempts; ++attempt) {
      made.push_back({Verb::refuse_claim, kC, attempt});
      made.push_back({Verb::die, kC, attempt});
    }
    return made;
  }();
  return moves;
}

struct Node {
  Joint joint;
  uint32_t parent;
  Move move;
};

std::string trace(const std::vector<Node>& nodes, uint32_t last, const std::string& what) {
  std::string text;
  for (auto at = last; at != 0; at = nodes[at].parent) text = describe(nodes[at].move, nodes[at].joint) + text;
  return what + ":\n" + text;
}

}  // namespace

Findings explore(const Rules& rules) {
  Findings findings;
  std::vector<Node> nodes{{Joint{}, 0, {}}};
  const auto hash = [&](uint32_t i) { return std::hash<std::string_view>{}(bytes(nodes[i].joint)); };
  const auto same = [&](uint32_t a, uint32_t b) { return bytes(nodes[a].joint) == bytes(nodes[b].joint); };
  std::unordered_set<uint32_t, decltype(hash), decltype(same)> known(1 << 16, hash, same);
  known.insert(0);
  for (uint32_t at = 0; at < nodes.size() && findings.violation.empty(); ++at) {
    for (const auto move : all_moves()) {
      if (move.attempt > rules.attempts) continue;
      World world(rules, nodes[at].joint, findings);
      if (!world.apply(move)) continue;
      if (world.violation.empty() && world.quiet()) world.check_end();
      const auto next = static_cast<uint32_t>(nodes.size());
      nodes.push_back({world.joint, at, move});
      if (!world.violation.empty()) {
        findings.violation = trace(nodes, next, world.violation);
        break;
      }
      if (!known.insert(next).second) nodes.pop_back();
    }
  }
  findings.states = nodes.size();
  return findings;
}

}  // namespace rsock::flow::model
