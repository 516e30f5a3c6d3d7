#include "config/source.hpp"

#include <fmt/format.h>

#include <cerrno>

namespace rsock::config {
namespace {

bool is_absence(int error) { return error == ENOENT || error == ENOTDIR; }

/// Those who may decide what a program does, since they could have written what it was told to read.
class Owners {
 public:
  Owners(uid_t user, const Result<File>& main) : user_(user), writer_(main ? main->facts.st_uid : 0) {}

  bool trust(const struct stat& facts) const { return fault(facts).empty(); }

  /// Empty: nothing.
  std::string fault(const struct stat& facts) const {
    const auto owner = facts.st_uid;
    if (owner != 0 && owner != user_ && owner != writer_)
      return fmt::format("belongs to user {}, neither to root nor to user {}, who reads it", owner, user_);
    if ((facts.st_mode & S_IWOTH) != 0)
      return fmt::format("has mode {:04o}: others may write to it", facts.st_mode & 07777);
    return {};
  }

 private:
  uid_t user_, writer_;
};

std::string cannot_be_opened(int error) { return fmt::format("cannot be opened: {}", reason(error)); }

Part part_of(const std::string& path, const Result<File>& file, const Owners& owners) {
  if (!file) return {path, {}, cannot_be_opened(file.error())};
  if (!S_ISREG(file->facts.st_mode)) return {path, {}, "is no regular file"};
  if (auto fault = owners.fault(file->facts); !fault.empty()) return {path, {}, fault};
  return {path, file->bytes, {}};
}

void add_folder(std::vector<Part>& parts, const std::string& path, const Reader& reader, const Owners& owners) {
  const auto folder = reader.folder(path, [&](const auto& facts) { return owners.trust(facts); });
  if (!folder) {
    if (!is_absence(folder.error())) parts.push_back({path, {}, cannot_be_opened(folder.error())});
  } else if (auto fault = owners.fault(folder->facts); !fault.empty()) {
    parts.push_back({path, {}, fault});
  } else if (folder->names.size() > kPartsMost) {
    parts.push_back({path, {}, fmt::format("has more than {} files", kPartsMost)});
  } else {
    for (const auto& name : folder->names)
      parts.push_back(part_of(path + '/' + name, reader.part(path + '/' + name), owners));
  }
}

std::vector<Part> read_files(const Source& source, const Reader& reader) {
  const auto& path = source.text_or_path;
  std::vector<Part> parts;
  const auto file = reader.file(path);
  if (file)
    parts.push_back({path, file->bytes, {}});
  else if (source.must_exist || !is_absence(file.error()))
    parts.push_back({path, {}, cannot_be_opened(file.error())});
  // "rsock.toml" is in "", and "conf.d" beside it.
  add_folder(parts, path.substr(0, path.rfind('/') + 1) + kPartsFolder, reader, Owners(reader.user, file));
  return parts;
}

}  // namespace

Source find(const Environment& environment) noexcept {
  try {
    if (const char* rules = environment(kRulesVariable))
      return *rules != '\0' ? Source{Source::Kind::text, rules, true} : Source{};
    if (const char* path = environment(kConfigVariable))
      return *path != '\0' ? Source{Source::Kind::file, path, true} : Source{};
    return {Source::Kind::file, kDefaultPath, false};
  } catch (...) {
    return {};
  }
}

bool is_part(std::string_view name) noexcept { return !name.starts_with('.') && name.ends_with(".toml"); }

std::vector<Part> read(const Source& source, const Reader& reader) {
  switch (source.kind) {
    case Source::Kind::none: return {};
    case Source::Kind::text: return {{kRulesVariable, source.text_or_path, {}}};
    case Source::Kind::file: return read_files(source, reader);
  }
  return {};
}

Parsed load(const Source& source, const Reader& reader, std::optional<std::string_view> program_name) noexcept {
  try {
    return parse(read(source, reader), program_name);
  } catch (...) {
    return {};
  }
}

}  // namespace rsock::config
