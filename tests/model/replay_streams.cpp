// replay_streams: drives the machines of both ends of a flow's streams through the traces that the model (streams.pml)
// allows, and holds each of them to the model's.
//
// Standard input is what the model printed while SPIN walked through it in depth: `move N` for the N-th thing that
// happens in a trace, and then what was called in it, in order, and what came of it: `end N END EVENT A B ANSWER`, and
// what the end is then. A move that does not follow on the one before goes back to where the two traces part. Exit
// status 1 if a machine and the model differ, or if nothing was called.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/flow/ends.hpp"

using namespace rsock::flow;

namespace {

enum class Call { shutdown, close, next_word, fin, tell_reset, reset };

struct Line {
  size_t move, end;
  int call, a, b, answer;
  std::vector<int> then;  // own, read_shut, write_shut, told, peer, failure, known, total
};

std::vector<int> state_of(const Ends& ends) {
  const int own = ends.aborts() ? 2 : ends.closing() ? 1 : 0;
  return {own,
          ends.read_shut(),
          ends.write_shut(),
          static_cast<int>(ends.told()),
          static_cast<int>(ends.peer()),
          static_cast<int>(ends.failure()),
          ends.total().has_value(),
          static_cast<int>(ends.total().value_or(0))};
}

// What it answers, as the model writes it.
int call(Ends& ends, const Line& line) {
  switch (static_cast<Call>(line.call)) {
    case Call::shutdown: return static_cast<bool>(ends.shutdown(line.a));
    case Call::close: return ends.close(line.a), 0;
    case Call::next_word: return static_cast<int>(ends.next_word(line.a));
    case Call::fin: return ends.fin(static_cast<uint64_t>(line.a), line.b, static_cast<uint64_t>(line.a));
    case Call::tell_reset: return ends.tell_reset(), 0;
    case Call::reset: {
      const int error = ends.reset();
      return error == EPIPE ? 1 : error == ECONNRESET ? 2 : 0;
    }
  }
  return -1;
}

}  // namespace

int main() {
  std::vector<std::array<Ends, 2>> trace(1);  // after each move
  std::set<std::string> kinds;
  size_t calls = 0, longest = 0;
  for (std::string text, word; std::getline(std::cin, text);) {
    std::istringstream words(text);
    Line line{};
    if (!(words >> word) || (word != "end" && word != "move")) continue;
    words >> line.move;
    if (word == "move") {
      if (line.move == 0 || line.move > trace.size()) return std::cerr << "a move is missing: " << text << "\n", 1;
      trace.resize(line.move);
      trace.push_back(trace.back());
      longest = std::max(longest, line.move);
      continue;
    }
    words >> line.end >> line.call >> line.a >> line.b >> line.answer;
    for (int value; words >> value;) line.then.push_back(value);
    if (line.end > 1 || line.move + 1 != trace.size()) return std::cerr << "cannot read: " << text << "\n", 1;
    auto& ends = trace.back()[line.end];
    const auto before = state_of(ends);
    const int answer = call(ends, line);
    if (answer != line.answer || state_of(ends) != line.then)
      return std::cerr << fmt::format("the machine answers {}, and is {}: {}\n", answer, fmt::join(state_of(ends), " "),
                                      text),
             1;
    // The error is the flow's to give: it has one for each reset that the program is to hear of.
    if (line.call == static_cast<int>(Call::reset) && answer > 0 && !ends.failed()) ends.fail(ECONNRESET);
    kinds.insert(fmt::format("{} {}", fmt::join(before, " "), line.call));
    ++calls;
  }
  fmt::print("{} calls of the machines, {} kinds of them, up to {} moves in a trace\n", calls, kinds.size(), longest);
  return calls == 0;
}
