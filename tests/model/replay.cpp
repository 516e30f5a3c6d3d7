// replay: drives two flow machines through the traces that the model allows, and holds each of their steps to the
// model's.
//
// Standard input is what the model printed while SPIN walked through it in depth: `move N` for the N-th thing that
// happens in a trace, and then, if a machine takes a step at that, `step N END STATE EVENT PAST RAW NEXT ACTION ACTION
// ACTION`. A move that does not follow on the one before goes back to where the two traces part. Where SPIN meets a
// joint state again it does not go on: whatever follows was walked from there already, by machines in the same states.
// Exit status 1 if a machine and the model differ, or if there are no steps.

#include <fmt/format.h>

#include <array>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/flow/machine.hpp"

using namespace rsock::flow;

namespace {

constexpr std::array<std::string_view, 10> kActions{"none",        "send_claim", "send_accept",  "send_confirm",
                                                    "show_token",  "show_no",    "send_witness", "send_resume",
                                                    "resend_rest", "reset"};

Event event_named(const std::string& text) {
  for (size_t i = 0; i < kEvents; ++i)
    if (name(static_cast<Event>(i)) == text) return static_cast<Event>(i);
  throw std::runtime_error("no event " + text);
}

struct Ends {
  long move;
  std::array<State, 2> states;
};

struct Line {
  long move;
  size_t end;
  std::string state, event, next;
  bool past, raw;
  std::array<std::string, 3> actions;
};

std::string told(std::string_view state, const std::array<std::string, 3>& actions) {
  return fmt::format("{}: {}, {}, {}", state, actions[0], actions[1], actions[2]);
}

std::string told(const Step& step) {
  std::array<std::string, 3> actions{"none", "none", "none"};
  for (size_t i = 0; i < step.actions.size(); ++i) actions[i] = kActions.at(static_cast<size_t>(step.actions[i]));
  return told(name(step.state), actions);
}

}  // namespace

int main() {
  std::vector<Ends> trace{{-1, {State::tcp, State::tcp}}};
  std::set<std::string> kinds;
  size_t steps = 0, longest = 0;
  for (std::string text, word; std::getline(std::cin, text);) {
    std::istringstream words(text);
    Line line;
    if (!(words >> word) || (word != "step" && word != "move")) continue;
    words >> line.move;
    while (trace.back().move >= line.move) trace.pop_back();
    if (word == "move") continue;
    words >> line.end >> line.state >> line.event >> line.past >> line.raw >> line.next;
    for (auto& action : line.actions) words >> action;
    if (!words || line.end > 1) return std::cerr << "cannot read: " << text << "\n", 1;
    auto ends = trace.back();
    auto& state = ends.states[line.end];
    if (name(state) != line.state) return std::cerr << "the machine is in " << name(state) << ": " << text << "\n", 1;
    const auto got = step(state, event_named(line.event), {.past_boundary = line.past, .raw_sent = line.raw});
    if (told(got) != told(line.next, line.actions))
      return std::cerr << "the machine goes to " << told(got) << ": " << text << "\n", 1;
    state = got.state;
    ends.move = line.move;
    trace.push_back(ends);
    longest = std::max(longest, trace.size() - 1);
    kinds.insert(line.state + " " + line.event);
    ++steps;
  }
  fmt::print("{} steps of the machines, {} kinds of them, up to {} in a trace\n", steps, kinds.size(), longest);
  return steps == 0;
}
