#include "tools/look.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <utility>

#include "tools/table.hpp"

namespace rsock::tools {
namespace {

using wire::Order;

// What the library tells of each (core/engine/service/survey.cpp).
constexpr std::string_view kOfFlow[] = {"id",       "lane",      "role", "local", "peer",        "ring_in", "ring_out",
                                        "bytes_in", "bytes_out", "full", "link",  "age_seconds", "why"};
constexpr std::string_view kOfLink[] = {"id",      "lane",   "device", "peer",   "flows",
                                        "credits", "memory", "inline", "returns"};

constexpr Column kFlows[] = {{"pid", "pid"},           {"program", "program"},   {"lane", "lane"},
                             {"local", "local"},       {"peer", "peer"},         {"ring_in", "ring in"},
                             {"ring_out", "ring out"}, {"bytes_in", "bytes in"}, {"bytes_out", "bytes out"},
                             {"full", "full"},         {"link", "link"},         {"age_seconds", "age s"},
                             {"why", "why on tcp"}};
constexpr Column kLinks[] = {{"pid", "pid"},       {"program", "program"}, {"id", "link"},
                             {"lane", "lane"},     {"device", "device"},   {"peer", "peer"},
                             {"flows", "flows"},   {"credits", "credits"}, {"memory", "memory"},
                             {"inline", "inline"}, {"returns", "returns"}};
constexpr Column kRates[] = {{"pid", "pid"},
                             {"program", "program"},
                             {"lane", "lane"},
                             {"local", "local"},
                             {"peer", "peer"},
                             {"in_rate", "bytes in/s"},
                             {"out_rate", "bytes out/s"},
                             {"full", "full"},
                             {"why", "why on tcp"}};

struct Seen {
  bool nobody = false;
  ExitStatus status = kSuccess;
  std::vector<Row> rows;
};

Seen look(const OperateArguments& whose, Order order, std::span<const std::string_view> keys,
          bool with_mistakes = false) {
  Seen seen;
  auto processes = Process::find(whose.selection);
  seen.nobody = processes.empty();
  if (with_mistakes) tell_of_mistakes(whose.selection, processes);
  auto told = Process::read(processes, order, whose.port);
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (!told[i].complete) seen.status = silent(processes[i]);
    for (const auto& line : told[i].lines) {
      Row row{{"pid", processes[i].pid()}, {"program", processes[i].program()}};
      row.update(read_row(keys, line));
      seen.rows.push_back(std::move(row));
    }
  }
  return seen;
}

ExitStatus print(const Seen& seen, std::span<const Column> columns, const OperateArguments& whose,
                 const LookArguments& how) {
  if (seen.nobody && how.json) fmt::print("{}", to_json({}));
  if (seen.nobody) return nobody(whose.selection);
  fmt::print("{}", how.json ? to_json(seen.rows) : to_table(columns, seen.rows));
  return seen.status;
}

// ---- rates

std::uint64_t count(const Row& row, const char* key) {
  return row[key].is_number_unsigned() ? row[key].get<std::uint64_t>() : 0;
}

/// Bytes in and out at a moment, by process and flow.
class Rates {
 public:
  using Clock = std::chrono::steady_clock;
  /// Puts the rates since the last time into the rows, the fastest first.
  void add(std::vector<Row>& rows) {
    const auto time = Clock::now();
    const auto seconds = std::chrono::duration<double>(time - when_).count();
    std::map<std::pair<std::int64_t, std::uint64_t>, std::pair<std::uint64_t, std::uint64_t>> now;
    for (auto& row : rows) {
      const std::pair name{row["pid"].get<std::int64_t>(), count(row, "id")};
      const std::pair bytes{count(row, "bytes_in"), count(row, "bytes_out")};
      const auto known = last_.find(name);
      const auto before = known == last_.end() ? bytes : known->second;
      row["in_rate"] = rate(before.first, bytes.first, seconds);
      row["out_rate"] = rate(before.second, bytes.second, seconds);
      now[name] = bytes;
    }
    last_ = std::move(now);
    when_ = time;
    std::ranges::stable_sort(rows, std::greater(),
                             [](const Row& row) { return count(row, "in_rate") + count(row, "out_rate"); });
  }

 private:
  static std::uint64_t rate(std::uint64_t before, std::uint64_t now, double seconds) {
    return now > before ? static_cast<std::uint64_t>(static_cast<double>(now - before) / seconds) : 0;
  }
  std::map<std::pair<std::int64_t, std::uint64_t>, std::pair<std::uint64_t, std::uint64_t>> last_;
  Clock::time_point when_;
};

volatile sig_atomic_t interrupted = 0;

void sleep_a_second() {
  const timespec second{1, 0};
  (void)::nanosleep(&second, nullptr);
}

/// Over what was drawn before, and no more than fits; where nobody looks at a terminal, behind it.
void draw(const std::string& table, bool first) {
  winsize window{};
  const bool terminal =
      ::isatty(STDOUT_FILENO) && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
  if (!terminal) {
    fmt::print("{}{}", first ? "" : "\n", table);
  } else {
    fmt::print("\x1b[H\x1b[2J");
    std::string_view rest = table;
    for (unsigned line = 1; !rest.empty() && line < std::max<unsigned>(window.ws_row, 2); ++line) {
      const auto end = std::min(rest.find('\n'), rest.size() - 1);
      fmt::print("{}\n", rest.substr(0, std::min<std::size_t>(end, window.ws_col)));
      rest.remove_prefix(end + 1);
    }
  }
  std::fflush(stdout);
}

}  // namespace

ExitStatus flows(const OperateArguments& whose, const LookArguments& how) {
  return print(look(whose, Order::flows, kOfFlow, true), kFlows, whose, how);
}

ExitStatus links(const OperateArguments& whose, const LookArguments& how) {
  return print(look(whose, Order::links, kOfLink), kLinks, whose, how);
}

ExitStatus top(const OperateArguments& whose, const LookArguments& how) {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  auto seen = look(whose, Order::flows, kOfFlow);
  if (seen.nobody) return nobody(whose.selection);
  Rates rates;
  rates.add(seen.rows);
  for (unsigned drawn = 0; how.count == 0 || drawn < how.count; ++drawn) {
    sleep_a_second();
    if (interrupted) break;
    seen = look(whose, Order::flows, kOfFlow);
    if (interrupted) break;
    rates.add(seen.rows);
    if (how.json)
      fmt::print("{}\n", Row(seen.rows).dump(-1, ' ', true, Row::error_handler_t::replace)), std::fflush(stdout);
    else
      draw(to_table(kRates, seen.rows), drawn == 0);
    if (std::ferror(stdout)) return kFailure;
  }
  return kSuccess;
}

}  // namespace rsock::tools
