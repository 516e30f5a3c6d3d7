#include "config/option_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <type_traits>

#include "config/diagnostic.hpp"

namespace rsock::config {
namespace {

constexpr std::uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;

/// By number.
constexpr std::array<std::string_view, 2> kIoUringWords = {"refuse", "tcp"};

constexpr std::array kTable = {
    Option{"rendezvous_ms", &Options::rendezvous_ms, 2000, 10, 60000, false,
           "How long the connecting end waits to be dialled."},
    Option{
        "young_ms", &Options::young_ms, 10, 0, 1000, false,
        "How old a connection has to be before a lane is sought for it, unless it is busy before; 0: none is young."},
    Option{"dial_ms", &Options::dial_ms, 2000, 10, 60000, false,
           "How long a dial of the accepting end may go unanswered before it is repeated."},
    Option{"spin_us", &Options::spin_us, 400, 0, 100000, false,
           "The longest time to poll for completions before sleeping; waits adapt below it, and 0 never polls."},
    Option{"ring_min", &Options::ring_min, 16 * kKiB, 4 * kKiB, 64 * kMiB, true,
           "The size of a flow's receive ring when it enters a lane."},
    Option{"ring_max", &Options::ring_max, kMiB, 4 * kKiB, 64 * kMiB, true,
           "The size up to which a busy flow's receive ring grows; at least ring_min."},
    Option{"drain_ms", &Options::drain_ms, 2000, 0, 60000, false,
           "How long a process that exits waits for the bytes it has written to leave."},
    Option{"max_pinned", &Options::max_pinned, kGiB, kMiB, 1024 * kGiB, false,
           "The most memory that one process registers; further flows stay on TCP."},
    Option{"check_peer_address", &Options::check_peer_address, 1, 0, 1, false,
           "Whether whoever dials must have the address of the flow's peer."},
    Option{"device", &Options::device, 0, 0, 63, false, "The name of the RDMA device to use; any device when empty."},
    Option{"io_uring", &Options::io_uring, 0, 0, kIoUringWords.size() - 1, false,
           "Whether a program that asks for a ring of io_uring is refused it, or has its flows on TCP."},
    Option{"secret", &Options::secret, 0, 0, 1000, false,
           "The path of a file of 32 random bytes that peers over RDMA must know; any peer when empty."},
};

constexpr bool is_sane(const Option& option) {
  const bool within = option.min <= option.initial && option.initial <= option.max;
  return within && (!option.power_of_two || std::has_single_bit(option.initial));
}
static_assert(std::all_of(kTable.begin(), kTable.end(), is_sane));

/// How a type of option is named, written and read.
template <typename T>
struct Kind;
template <>
struct Kind<std::chrono::milliseconds> {
  static constexpr std::string_view name = "integer", unit = "ms";
};
template <>
struct Kind<std::chrono::microseconds> {
  static constexpr std::string_view name = "integer", unit = "us";
};
template <>
struct Kind<std::size_t> {
  static constexpr std::string_view name = "size", unit = "bytes";
};
template <>
struct Kind<bool> {
  static constexpr std::string_view name = "boolean", unit = "";
};
template <>
struct Kind<std::string> {
  static constexpr std::string_view name = "string", unit = "";
};

template <>
struct Kind<IoUring> {
  static constexpr std::string_view name = "word", unit = "";
};

template <typename T>
struct Member;
template <typename T>
struct Member<T Options::*> {
  using type = T;
};

/// Calls `f` with the member that `option` describes; its return value is that of the visit.
template <typename F>
auto with_field(const Option& option, F&& f) {
  return std::visit([&]<typename P>(P field) { return f.template operator()<typename Member<P>::type>(field); },
                    option.field);
}

std::string size_text(std::uint64_t bytes) {
  if (bytes != 0 && bytes % kGiB == 0) return fmt::format("{}G", bytes / kGiB);
  if (bytes != 0 && bytes % kMiB == 0) return fmt::format("{}M", bytes / kMiB);
  if (bytes != 0 && bytes % kKiB == 0) return fmt::format("{}K", bytes / kKiB);
  return fmt::format("{}", bytes);
}

/// `value` as a file would give it.
std::string value_text(const Option& option, std::uint64_t value) {
  return with_field(option, [&]<typename T>(T Options::*) -> std::string {
    if constexpr (std::is_same_v<T, bool>) return value != 0 ? "true" : "false";
    if constexpr (std::is_same_v<T, std::string>) return "\"\"";
    if constexpr (std::is_same_v<T, IoUring>) return fmt::format("\"{}\"", kIoUringWords[value]);
    if constexpr (std::is_same_v<T, std::size_t>) return size_text(value);
    return fmt::format("{}", value);
  });
}

/// Within an argument of a man(7) request.
std::string quotes_for_man(std::string_view text) {
  std::string out;
  for (const char letter : text) out += letter == '"' ? std::string("\\(dq") : std::string(1, letter);
  return out;
}

std::string_view unit(const Option& option) {
  return with_field(option, []<typename T>(T Options::*) { return Kind<T>::unit; });
}

std::string_view type_name(const Option& option) {
  return with_field(option, []<typename T>(T Options::*) { return Kind<T>::name; });
}

bool has_range(const Option& option) {
  return with_field(
      option, []<typename T>(T Options::*) { return !std::is_same_v<T, bool> && !std::is_same_v<T, std::string>; });
}

std::string range_text(const Option& option) {
  if (std::holds_alternative<IoUring Options::*>(option.field))
    return fmt::format("{}", fmt::join(kIoUringWords, " or "));
  std::string out = fmt::format("{} to {}", value_text(option, option.min), value_text(option, option.max));
  if (unit(option) != "bytes") out += fmt::format(" {}", unit(option));
  if (option.power_of_two) out += ", a power of two";
  return out;
}

/// "65536", "64K", "1M", "1G"; nullopt when it is anything else or does not fit.
std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  const std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  const std::uint64_t factor = suffix.empty()  ? 1
                               : suffix == "K" ? kKiB
                               : suffix == "M" ? kMiB
                               : suffix == "G" ? kGiB
                                               : 0;
  if (factor == 0 || value > UINT64_MAX / factor) return std::nullopt;
  return value * factor;
}

Complaint wrong_type(const Option& option) {
  const std::string_view name = type_name(option);
  const std::string_view article = name == "integer" ? "an" : "a";
  const std::string_view example = name == "size" ? R"( (65536, "64K", "1M"))" : "";
  return {fmt::format("{} must be {} {}{}", option.name, article, name, example)};
}

std::optional<Complaint> out_of_range(const Option& option, std::uint64_t value, std::string_view shown) {
  const bool within = option.min <= value && value <= option.max;
  if (within && (!option.power_of_two || std::has_single_bit(value))) return std::nullopt;
  return Complaint{fmt::format("{} = {} is out of range ({})", option.name, shown, range_text(option))};
}

std::optional<Complaint> assign_text(Options& options, const Option& option, std::string Options::*field,
                                     const OptionValue& value) {
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr) return wrong_type(option);
  if (text->size() > option.max) return Complaint{fmt::format("{} is longer than {} bytes", option.name, option.max)};
  if (text->find('\0') != text->npos) return Complaint{fmt::format("{} contains a NUL", option.name)};
  options.*field = *text;
  return std::nullopt;
}

std::optional<Complaint> assign_word(Options& options, const Option& option, IoUring Options::*field,
                                     const OptionValue& value) {
  const auto* text = std::get_if<std::string_view>(&value);
  const auto word = text ? std::ranges::find(kIoUringWords, *text) : kIoUringWords.end();
  if (word == kIoUringWords.end()) return Complaint{fmt::format("{} must be {}", option.name, range_text(option))};
  options.*field = static_cast<IoUring>(word - kIoUringWords.begin());
  return std::nullopt;
}

template <typename T>
std::optional<Complaint> assign_number(Options& options, const Option& option, T Options::*field,
                                       const OptionValue& value) {
  std::optional<std::uint64_t> number;
  std::string shown;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    shown = fmt::format("{}", *integer);
    number = *integer < 0 ? UINT64_MAX : static_cast<std::uint64_t>(*integer);
  } else if (const auto* text = std::get_if<std::string_view>(&value); text && std::is_same_v<T, std::size_t>) {
    shown = quoted(*text);
    number = parse_size(*text);
  }
  if (!number) return wrong_type(option);
  if (auto complaint = out_of_range(option, *number, shown)) return complaint;
  options.*field = T(*number);
  return std::nullopt;
}

}  // namespace

Options::Options() noexcept {
  for (const Option& option : kTable)
    with_field(option, [&]<typename T>(T Options::*field) {
      if constexpr (!std::is_same_v<T, std::string>) this->*field = T(option.initial);
    });
}

std::span<const Option> option_table() noexcept { return kTable; }

std::optional<Complaint> assign(Options& options, const Option& option, const OptionValue& value) {
  return with_field(option, [&]<typename T>(T Options::*field) -> std::optional<Complaint> {
    if constexpr (std::is_same_v<T, std::string>) {
      return assign_text(options, option, field, value);
    } else if constexpr (std::is_same_v<T, IoUring>) {
      return assign_word(options, option, field, value);
    } else if constexpr (std::is_same_v<T, bool>) {
      const bool* truth = std::get_if<bool>(&value);
      if (truth == nullptr) return wrong_type(option);
      options.*field = *truth;
      return std::nullopt;
    } else {
      return assign_number(options, option, field, value);
    }
  });
}

OptionValue value_of(const Options& options, const Option& option) {
  return with_field(option, [&]<typename T>(T Options::*field) -> OptionValue {
    const T& value = options.*field;
    if constexpr (std::is_same_v<T, bool>) return value;
    if constexpr (std::is_same_v<T, std::string>) return std::string_view(value);
    if constexpr (std::is_same_v<T, IoUring>) return kIoUringWords[static_cast<std::size_t>(value)];
    if constexpr (std::is_same_v<T, std::size_t>) return static_cast<std::int64_t>(value);
    if constexpr (std::is_class_v<T> && !std::is_same_v<T, std::string>)
      return static_cast<std::int64_t>(value.count());
  });
}

std::string shown(const Options& options, const Option& option) {
  const auto value = value_of(options, option);
  if (const auto* text = std::get_if<std::string_view>(&value)) return fmt::format("\"{}\"", *text);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  return value_text(option, static_cast<std::uint64_t>(std::get<std::int64_t>(value)));
}

std::string describe_options() {
  std::string out;
  for (const Option& option : kTable) {
    out += fmt::format("{} = {}\n    {}\n", option.name, value_text(option, option.initial), option.sentence);
    out += fmt::format("    {}{}{}\n", type_name(option), has_range(option) ? ", " : "",
                       has_range(option) ? range_text(option) : "");
  }
  return out;
}

std::string man_section() {
  std::string out = ".SH OPTIONS\nKeys of the [options] table.\n";
  for (const Option& option : kTable) {
    out += fmt::format(".TP\n.BR {} \" = {}\"\n{}\n", option.name, quotes_for_man(value_text(option, option.initial)),
                       option.sentence);
    if (has_range(option)) out += fmt::format("({}.)\n", range_text(option));
  }
  return out;
}

}  // namespace rsock::config
