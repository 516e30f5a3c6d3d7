#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <utility>

#include "config/config.hpp"
#include "config/option_table.hpp"
#include "config/text.hpp"
#include "config/tomlplusplus.hpp"

namespace rsock::config {
namespace {

constexpr std::array<std::string_view, 2> kTopKeys = {"rule", "options"};
constexpr std::array<std::string_view, 4> kRuleKeys = {"listen", "connect", "program", "lane"};

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::none: return "nothing";
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a floating-point number";
    case toml::node_type::boolean: return "a boolean";
    case toml::node_type::date: return "a date";
    case toml::node_type::time: return "a time";
    case toml::node_type::date_time: return "a date and time";
  }
  return "something else";
}

std::string unknown_key(std::string_view key, std::span<const std::string_view> known) {
  const std::string_view near = nearest(key, known);
  if (!near.empty()) return fmt::format("unknown key {}, did you mean \"{}\"?", quoted(key), near);
  return fmt::format("unknown key {}; known are: {}", quoted(key), fmt::join(known, ", "));
}

/// Walks parsed documents, gathering rules, options and complaints.
class Walk {
 public:
  Walk() : set_(option_table().size()) {}

  void part(const std::string& file_name, std::string_view text, const std::string& fault);

  /// The rules for which `wanted` holds. Ends the walk.
  template <typename Predicate>
  Parsed finish(Predicate wanted) {
    ring_order();
    Parsed parsed;
    parsed.files = std::move(files_);
    if (!errors_.empty()) {
      parsed.errors = in_order();
      return parsed;
    }
    std::vector<Rule> rules;
    for (std::size_t i = 0; i < rules_.size(); ++i) {
      if (!wanted(rules_[i])) continue;
      rules.push_back(std::move(rules_[i]));
      parsed.rules.push_back(std::move(rule_places_[i]));
    }
    parsed.config = {Rules(std::move(rules)), std::move(options_), {}};
    for (auto& [part, place, value] : set_) parsed.options.push_back(std::move(place));
    return parsed;
  }

 private:
  void document(const toml::table& root);
  void complain(toml::source_position where, std::string message) {
    complain(where.line, where.column, std::move(message));
  }
  void complain(unsigned line, unsigned column, std::string message) {
    errors_.emplace_back(part_, Diagnostic{file_name_, line, column, std::move(message)});
  }
  void rules(const toml::node& node);
  void rule(const toml::table& table);
  void endpoint(Rule& rule, Rule::Side side, const toml::node& node);
  void program(Rule& rule, const toml::node& node);
  void lane(Rule& rule, const toml::node& node);
  void options(const toml::node& node);
  void option(std::size_t index, const toml::key& key, const toml::node& node);
  void ring_order();
  void secret_path(const toml::table& table);

  /// The text of `node`, or a complaint.
  std::optional<std::string_view> text(std::string_view key, const toml::node& node) {
    if (const auto* string = node.as_string()) return std::string_view(string->get());
    complain(node.source().begin, fmt::format("{} must be a string, not {}", key, type_name(node)));
    return std::nullopt;
  }

  std::vector<Diagnostic> in_order();

  /// Where an option was set last.
  struct Setting {
    unsigned part = 0;
    Place place = {};  // of the key
    toml::source_position value = {};
  };

  unsigned part_ = 0;  // parts count from 1
  std::vector<std::string> files_;
  std::string file_name_;
  std::vector<Rule> rules_;
  std::vector<Place> rule_places_;  // of each of rules_
  Options options_;
  std::vector<Setting> set_;                             // for each row of the table
  std::vector<std::pair<unsigned, Diagnostic>> errors_;  // each with its part
};

void Walk::part(const std::string& file_name, std::string_view text, const std::string& fault) {
  ++part_;
  file_name_ = file_name;
  if (fault.empty()) files_.push_back(file_name);
  if (!fault.empty())
    complain(0, 0, fault);
  else if (auto refusal = refuse(text))
    complain(refusal->line, refusal->column, std::move(refusal->message));
  else if (const toml::parse_result result = toml::parse(text))
    document(result.table());
  else
    complain(result.error().source().begin, std::string(result.error().description()));
}

std::vector<Diagnostic> Walk::in_order() {
  std::stable_sort(errors_.begin(), errors_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.line, a.second.column) < std::tie(b.first, b.second.line, b.second.column);
  });
  std::vector<Diagnostic> errors;
  for (auto& [part, error] : errors_) errors.push_back(std::move(error));
  return errors;
}

void Walk::document(const toml::table& root) {
  for (const auto& [key, node] : root) {
    if (key == "rule")
      rules(node);
    else if (key == "options")
      options(node);
    else
      complain(key.source().begin, unknown_key(key.str(), kTopKeys));
  }
}

void Walk::rules(const toml::node& node) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    complain(node.source().begin, fmt::format("a rule begins with [[rule]]; this is {}", type_name(node)));
    return;
  }
  for (const toml::node& element : *array) {
    if (const toml::table* table = element.as_table())
      rule(*table);
    else
      complain(element.source().begin, fmt::format("a rule must be a table, not {}", type_name(element)));
  }
}

void Walk::rule(const toml::table& table) {
  Rule rule;
  bool slip = false;
  for (const auto& [key, node] : table) {
    if (key == "listen") {
      endpoint(rule, Rule::Side::listen, node);
    } else if (key == "connect") {
      endpoint(rule, Rule::Side::connect, node);
    } else if (key == "program") {
      program(rule, node);
    } else if (key == "lane") {
      lane(rule, node);
    } else {
      complain(key.source().begin, unknown_key(key.str(), kRuleKeys));
      slip = true;
    }
  }
  const auto listen = table.find("listen");
  const auto connect = table.find("connect");
  if (listen != table.end() && connect != table.end()) {
    const auto where = std::max(listen->first.source().begin, connect->first.source().begin);
    complain(where, "a rule has listen or connect, not both");
  } else if (listen == table.end() && connect == table.end() && !slip) {
    complain(table.source().begin, "a rule needs listen or connect");
  }
  rules_.push_back(std::move(rule));
  rule_places_.push_back({file_name_, table.source().begin.line});
}

void Walk::endpoint(Rule& rule, Rule::Side side, const toml::node& node) {
  rule.side = side;
  const auto value = text(side == Rule::Side::listen ? "listen" : "connect", node);
  if (!value) return;
  auto parsed = parse_endpoint(*value);
  if (auto* complaint = std::get_if<Complaint>(&parsed))
    complain(node.source().begin, std::move(complaint->text));
  else
    rule.endpoint = std::get<Endpoint>(parsed);
}

void Walk::program(Rule& rule, const toml::node& node) {
  const auto value = text("program", node);
  if (!value) return;
  if (value->empty() || value->find('\0') != value->npos)
    complain(node.source().begin, fmt::format("program = {} names no program", quoted(*value)));
  rule.program = *value;
}

void Walk::lane(Rule& rule, const toml::node& node) {
  const auto value = text("lane", node);
  if (!value) return;
  const auto lane = parse_lane(*value);
  if (!lane) complain(node.source().begin, fmt::format("unknown lane {}; lanes are: {}", quoted(*value), lane_words()));
  rule.lane = lane.value_or(Lane::automatic);
}

void Walk::options(const toml::node& node) {
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    complain(node.source().begin, fmt::format("options must be a table, not {}", type_name(node)));
    return;
  }
  std::vector<std::string_view> names;
  for (const Option& row : option_table()) names.push_back(row.name);
  for (const auto& [key, value] : *table) {
    const auto row = std::find(names.begin(), names.end(), key.str());
    if (row == names.end())
      complain(key.source().begin, unknown_key(key.str(), names));
    else
      option(static_cast<std::size_t>(row - names.begin()), key, value);
  }
  secret_path(*table);
}

void Walk::option(std::size_t index, const toml::key& key, const toml::node& node) {
  const Option& row = option_table()[index];
  OptionValue value;
  if (const auto* integer = node.as_integer()) {
    value = integer->get();
  } else if (const auto* boolean = node.as_boolean()) {
    value = boolean->get();
  } else if (const auto* string = node.as_string()) {
    value = std::string_view(string->get());
  } else {
    complain(node.source().begin, fmt::format("{} cannot be {}", row.name, type_name(node)));
    return;
  }
  if (auto complaint = assign(options_, row, value))
    complain(node.source().begin, std::move(complaint->text));
  else
    set_[index] = {part_, {file_name_, key.source().begin.line}, node.source().begin};
}

/// Only values that were accepted are compared, so that one mistake is told once: where the later of the two was set.
void Walk::ring_order() {
  if (options_.ring_min <= options_.ring_max) return;
  const auto set = [&](std::string_view name) -> const Setting& {
    return set_[static_cast<std::size_t>(std::ranges::find(option_table(), name, &Option::name) -
                                         option_table().begin())];
  };
  const Setting& least = set("ring_min");
  const Setting& most = set("ring_max");
  const Setting& last = most.part >= least.part ? most : least;
  part_ = last.part;
  file_name_ = last.place.file;
  complain(last.value, fmt::format("ring_max ({}) is less than ring_min ({})", options_.ring_max, options_.ring_min));
}

/// Programs have folders of their own.
void Walk::secret_path(const toml::table& table) {
  const toml::node* node = table.get("secret");
  if (node == nullptr || options_.secret.empty() || options_.secret.starts_with('/')) return;
  complain(node->source().begin, fmt::format("secret = {} is no absolute path", quoted(options_.secret)));
}

/// The rules for `program_name`; without one, for every program. `gather` hands parts to a Walk.
template <typename Gather>
Parsed parse_where(std::optional<std::string_view> program_name, Gather gather) noexcept {
  try {
    Walk walk;
    gather(walk);
    return walk.finish([&](const Rule& rule) { return !program_name || rule.applies_to(*program_name); });
  } catch (...) {
    return {};
  }
}

}  // namespace

Parsed parse(std::string_view text, std::string_view file_name, std::string_view program_name) noexcept {
  return parse_where(program_name, [&](Walk& walk) { walk.part(std::string(file_name), text, {}); });
}

Parsed parse_for_every_program(std::string_view text, std::string_view file_name) noexcept {
  return parse_where(std::nullopt, [&](Walk& walk) { walk.part(std::string(file_name), text, {}); });
}

Parsed parse(std::span<const Part> parts, std::optional<std::string_view> program_name) noexcept {
  return parse_where(program_name, [&](Walk& walk) {
    for (const Part& part : parts) walk.part(part.file_name, part.text, part.fault);
  });
}

}  // namespace rsock::config
