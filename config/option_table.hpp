#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "config/endpoint.hpp"
#include "config/options.hpp"

namespace rsock::config {

/// One row of the option table: all that parsing, `rsock options` and the man page know of an option.
struct Option {
  using Field = std::variant<std::chrono::milliseconds Options::*, std::chrono::microseconds Options::*,
                             std::size_t Options::*, bool Options::*, std::string Options::*, IoUring Options::*>;
  std::string_view name;
  Field field;  ///< its type is the option's type and unit
  std::uint64_t
      initial;  ///< the default; 0 or 1 for a truth value, 0 (the empty text) for text, the word's number for a word
  std::uint64_t min;  ///< for text: of its length in bytes
  std::uint64_t max;
  bool power_of_two;
  std::string_view sentence;
};

std::span<const Option> option_table() noexcept;

/// A value as it stands in a file.
using OptionValue = std::variant<std::int64_t, bool, std::string_view>;

/// What `options` has for `option`; a text lives as long as `options`.
OptionValue value_of(const Options& options, const Option& option);

/// The same as `rsock options` writes it: 16K, true, "refuse". A text is as it was given. May throw std::bad_alloc.
std::string shown(const Options& options, const Option& option);

/// Stores `value` into `options`, or says why it cannot be that. May throw std::bad_alloc.
std::optional<Complaint> assign(Options& options, const Option& option, const OptionValue& value);

/// The option table as plain text, for `rsock options`. May throw std::bad_alloc.
std::string describe_options();

/// The option table as the OPTIONS section of a man(7) page. May throw std::bad_alloc.
std::string man_section();

}  // namespace rsock::config
