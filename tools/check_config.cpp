#include "tools/check_config.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "config/host_reader.hpp"
#include "config/secrets.hpp"
#include "core/base/kernel.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::tools {
namespace {

constexpr auto kPipePatience = std::chrono::seconds(5);

/// What is left of it.
int milliseconds_until(std::chrono::steady_clock::time_point deadline) {
  const auto rest = deadline - std::chrono::steady_clock::now();
  return static_cast<int>(std::max<long>(0, std::chrono::duration_cast<std::chrono::milliseconds>(rest).count()));
}

/// A pipe may be filled still, but is not waited for for ever.
Result<File> read_patiently(const std::string& path) {
  const UniqueFd opened(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!opened) return Errno{errno};
  File file;
  if (::fstat(opened.get(), &file.facts) != 0) return Errno{errno};
  const bool is_pipe = S_ISFIFO(file.facts.st_mode);
  const auto deadline = std::chrono::steady_clock::now() + kPipePatience;
  std::array<char, 65536> bytes;
  while (file.bytes.size() <= config::kTextLimit) {
    pollfd awaited{opened.get(), POLLIN, 0};
    if (!S_ISREG(file.facts.st_mode) && ::poll(&awaited, 1, milliseconds_until(deadline)) <= 0) return Errno{ETIMEDOUT};
    const auto got = ::read(opened.get(), bytes.data(), bytes.size());
    if (got == 0) break;
    if (got < 0 && errno != EAGAIN && errno != EINTR) return Errno{errno};
    if (got < 0 && !is_pipe) return Errno{errno};
    if (got > 0) file.bytes.append(bytes.data(), static_cast<std::size_t>(got));
  }
  file.bytes.resize(std::min(file.bytes.size(), config::kTextLimit + 1));
  return file;
}

}  // namespace

config::Reader patient_reader() {
  auto reader = config::host_reader(sys::effective_user());
  reader.file = read_patiently;
  return reader;
}

ExitStatus complain(const std::vector<config::Diagnostic>& errors) {
  for (const config::Diagnostic& error : errors) fmt::print(stderr, "{}\n", config::to_string(error));
  return kFailure;
}

ExitStatus check_config(const std::string& path) {
  auto reader = patient_reader();
  const auto file = reader.file(path);
  if (!file) return complain({{path, 0, 0, fmt::format("cannot be read: {}", std::strerror(file.error()))}});
  reader.file = [&](const std::string&) { return file; };
  auto parsed = config::load({config::Source::Kind::file, path, true}, reader, std::nullopt);
  if (const auto& secret = parsed.config.options.secret; !secret.empty())
    config::take_secrets(parsed, path, rsock::read_file(secret.c_str(), config::kSecretsMost), sys::effective_user());
  if (!parsed.errors.empty()) return complain(parsed.errors);
  for (const config::Rule& rule : parsed.config.rules.all()) fmt::print("{}\n", config::to_string(rule));
  if (parsed.config.rules.all().empty()) fmt::print("no rules: nothing is selected\n");
  return kSuccess;
}

}  // namespace rsock::tools
