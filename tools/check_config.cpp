#include "tools/check_config.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "config/host_reader.hpp"
#include "config/secrets.hpp"
#include "core/base/kernel.hpp"

namespace rsock::tools {
namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Result<File> read_patiently(const std::string& path) {
  const std::unique_ptr<std::FILE, FileCloser> opened(std::fopen(path.c_str(), "re"));
  if (!opened) return Errno{errno};
  File file;
  if (::fstat(::fileno(opened.get()), &file.facts) != 0) return Errno{errno};
  file.bytes.resize(config::kTextLimit + 1);
  file.bytes.resize(std::fread(file.bytes.data(), 1, file.bytes.size(), opened.get()));
  if (std::ferror(opened.get()) != 0) return Errno{errno};
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
