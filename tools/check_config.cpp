#include "tools/check_config.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <variant>

#include "config/config.hpp"

namespace rsock::tools {
namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

/// At most one byte more than a configuration may have, so that devices and pipes without end are refused,
/// too.
std::variant<std::string, int> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "re"));
  if (!file) return errno;
  std::string text(config::kTextLimit + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return errno;
  return text;
}

ExitStatus complain(const std::vector<config::Diagnostic>& errors) {
  for (const config::Diagnostic& error : errors) fmt::print(stderr, "{}\n", config::to_string(error));
  return kFailure;
}

}  // namespace

ExitStatus check_config(const std::string& path) {
  const auto text = read_file(path);
  if (const int* error = std::get_if<int>(&text))
    return complain({{path, 0, 0, fmt::format("cannot be read: {}", std::strerror(*error))}});
  const auto parsed = config::parse_for_every_program(std::get<std::string>(text), path);
  if (!parsed.errors.empty()) return complain(parsed.errors);
  for (const config::Rule& rule : parsed.config.rules.all()) fmt::print("{}\n", config::to_string(rule));
  if (parsed.config.rules.all().empty()) fmt::print("no rules: nothing is selected\n");
  return kSuccess;
}

}  // namespace rsock::tools
