/// `rsock stats`: the counters of running processes, summed by program.

#include <fmt/format.h>

#include <map>

#include "core/base/lane.hpp"
#include "tools/look.hpp"
#include "tools/table.hpp"

namespace rsock::tools {
namespace {

using Counts = std::map<std::string, std::uint64_t>;

struct Sums {
  std::uint64_t processes = 0, links = 0, dials = 0, reentries = 0;
  std::uint64_t returned = 0, returned_us = 0;
  Counts flows, bytes_in, bytes_out, fallback, returns;
};

std::uint64_t number(const Row& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

void add(Counts& to, const Row& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return;
  for (const auto& [name, value] : found->items())
    if (value.is_number_unsigned()) to[on_one_line(name)] += value.get<std::uint64_t>();
}

/// False if that is nothing that a process of ours says.
bool add(Sums& sums, std::string_view line) {
  const auto said = Row::parse(line, nullptr, false);
  if (!said.is_object()) return false;
  ++sums.processes;
  sums.links += number(said, "links");
  sums.dials += number(said, "dials");
  sums.reentries += number(said, "reentries");
  const auto back = said.value("return_us", Row::object());
  sums.returned += number(back, "count");
  sums.returned_us += number(back, "sum");
  add(sums.flows, said, "flows");
  add(sums.bytes_in, said, "bytes_in");
  add(sums.bytes_out, said, "bytes_out");
  add(sums.fallback, said, "fallback");
  add(sums.returns, said, "returns");
  return true;
}

std::uint64_t sum(const Counts& counts) {
  std::uint64_t all = 0;
  for (const auto& [name, count] : counts) all += count;
  return all;
}

std::uint64_t of(const Counts& counts, std::string_view name) {
  const auto found = counts.find(std::string(name));
  return found == counts.end() ? 0 : found->second;
}

using Programs = std::map<std::string, Sums>;

Row lanes(const Counts& counts) {
  auto object = Row::object();
  for (const auto lane : kLaneNames) object[std::string(lane)] = of(counts, lane);
  return object;
}

Row to_row(const std::string& program, const Sums& sums) {
  return {{"program", program},
          {"processes", sums.processes},
          {"flows", lanes(sums.flows)},
          {"bytes_in", lanes(sums.bytes_in)},
          {"bytes_out", lanes(sums.bytes_out)},
          {"links", sums.links},
          {"dials", sums.dials},
          {"fallback", Row(sums.fallback)},
          {"returns", Row(sums.returns)},
          {"return_us", {{"count", sums.returned}, {"sum", sums.returned_us}}},
          {"reentries", sums.reentries}};
}

/// Three lines a program: what it did by each lane, and what it did at all in the first of them.
std::string to_table(const Programs& programs) {
  constexpr Column kColumns[] = {{"program", "program"},     {"processes", "processes"}, {"lane", "lane"},
                                 {"flows", "flows"},         {"bytes_in", "bytes in"},   {"bytes_out", "bytes out"},
                                 {"links", "links"},         {"dials", "dials"},         {"returns", "returns"},
                                 {"reentries", "reentries"}, {"why", "why on tcp"}};
  std::vector<Row> rows;
  for (const auto& [program, sums] : programs) {
    std::string why;
    for (const auto& [reason, count] : sums.fallback)
      why += fmt::format("{}{} {}", why.empty() ? "" : ", ", reason, count);
    for (const auto lane : kLaneNames) {
      rows.push_back(
          {{"program", program}, {"processes", sums.processes}, {"lane", lane}, {"flows", of(sums.flows, lane)}});
      auto& row = rows.back();
      row["bytes_in"] = of(sums.bytes_in, lane);
      row["bytes_out"] = of(sums.bytes_out, lane);
      if (lane != kLaneNames.front()) continue;
      row["links"] = sums.links;
      row["dials"] = sums.dials;
      row["returns"] = sum(sums.returns);
      row["reentries"] = sums.reentries;
      if (!why.empty()) row["why"] = why;
    }
  }
  return to_table(kColumns, rows);
}

// ---- the text format of Prometheus, as node_exporter's textfile collector reads it

std::string label(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  for (const char c : value) text += c == '\\' || c == '"' ? std::string{'\\', c} : std::string(1, c);
  return text + '"';
}

class Exposition {
 public:
  explicit Exposition(const Programs& programs) : programs_(programs) {}

  void head(std::string_view name, std::string_view type, std::string_view help) {
    text_ += fmt::format("# HELP librsock_{0} {2}\n# TYPE librsock_{0} {1}\n", name, type, help);
  }
  void number(std::string_view name, std::string_view type, std::string_view help, std::uint64_t (*of)(const Sums&)) {
    head(name, type, help);
    for (const auto& [program, sums] : programs_) sample(name, label("program", program), of(sums));
  }
  void counts(std::string_view name, std::string_view labelled, Counts Sums::*which, std::string_view help) {
    head(name, "counter", help);
    for (const auto& [program, sums] : programs_)
      for (const auto& [key, count] : sums.*which)
        sample(name, label("program", program) + ',' + label(labelled, key), count);
  }
  template <class Value>
  void sample(std::string_view name, const std::string& labels, Value value) {
    text_ += fmt::format("librsock_{}{{{}}} {}\n", name, labels, value);
  }
  void returns() {
    head("return_seconds", "summary", "Time that flows took from their lanes back to TCP.");
    for (const auto& [program, sums] : programs_) {
      sample("return_seconds_sum", label("program", program), static_cast<double>(sums.returned_us) / 1e6);
      sample("return_seconds_count", label("program", program), sums.returned);
    }
  }
  // A flow that enters a lane is one of that lane from then on: what only grows is the sum.
  void lanes() {
    head("flows_entered_total", "counter", "Flows that have been in a lane, by the furthest that they reached.");
    for (const auto& [program, sums] : programs_)
      for (const auto& [lane, count] : sums.flows)
        if (lane != kLaneNames.front())
          sample("flows_entered_total", label("program", program) + ',' + label("lane", lane), count);
  }
  const std::string& text() const { return text_; }

 private:
  const Programs& programs_;
  std::string text_;
};

std::string to_prometheus(const Programs& programs) {
  Exposition all(programs);
  all.number("processes", "gauge", "Running processes in which the library is active.",
             [](const Sums& sums) { return sums.processes; });
  all.number("flows_total", "counter", "Flows that a rule selected.", [](const Sums& sums) { return sum(sums.flows); });
  all.lanes();
  all.counts("received_bytes_total", "lane", &Sums::bytes_in,
             "Bytes that programs read from selected flows, by the lane that carried them.");
  all.counts("sent_bytes_total", "lane", &Sums::bytes_out,
             "Bytes that programs wrote to selected flows, by the lane that carried them.");
  all.number("links_total", "counter", "Links that were set up.", [](const Sums& sums) { return sums.links; });
  all.number("dials_total", "counter", "Links that were asked for, whatever came of it.",
             [](const Sums& sums) { return sums.dials; });
  all.counts("fallbacks_total", "reason", &Sums::fallback, "Flows that stay on TCP for good, by reason.");
  all.counts("returns_total", "reason", &Sums::returns, "Times that a flow went from a lane back to TCP, by reason.");
  all.number("reentries_total", "counter", "Times that a flow entered a lane again.",
             [](const Sums& sums) { return sums.reentries; });
  all.returns();
  return all.text();
}

}  // namespace

ExitStatus statistics(const OperateArguments& whose, const LookArguments& how) {
  auto processes = Process::find(whose.selection);
  if (processes.empty() && how.json) fmt::print("{}", to_json({}));
  if (processes.empty()) return nobody(whose.selection);
  auto status = kSuccess;
  Programs programs;
  const auto told = Process::read(processes, wire::Order::statistics);
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const bool said = told[i].complete && told[i].lines.size() == 1 &&
                      add(programs[on_one_line(processes[i].program())], told[i].lines[0]);
    if (!said) status = silent(processes[i]);
  }
  std::erase_if(programs, [](const auto& one) { return one.second.processes == 0; });
  std::vector<Row> rows;
  for (const auto& [program, sums] : programs) rows.push_back(to_row(program, sums));
  fmt::print("{}", how.prometheus ? to_prometheus(programs) : how.json ? to_json(rows) : to_table(programs));
  return status;
}

}  // namespace rsock::tools
