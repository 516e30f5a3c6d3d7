#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>

#include "config/source.hpp"
#include "tools/unit_file.hpp"

namespace rsock::tools::doctor {

/// The program that is looked at: that of a process, that of a unit, or any that this user starts.
struct Subject {
  std::filesystem::path root = "/";   ///< where the host's files are
  std::filesystem::path files = "/";  ///< where those are that it sees: a process may have a root of its own
  std::optional<pid_t> pid = {};
  std::optional<Unit> unit = {};
  std::filesystem::path program = {};  ///< as it sees it; empty: any
  std::string called = {};             ///< what the library knows it as; empty: the name of `program`
  bool answers = false;                ///< on its control socket: something of it is selected
  uid_t user = 0;
  gid_t group = 0;

  /// nullopt: there is no such process or unit.
  static std::optional<Subject> find(const std::filesystem::path& root, const std::string& target);

  /// Asks the process itself, where it is one of this host.
  void ask();

  bool is_any() const { return !pid && !unit; }
  /// "redis-server[4711]", "redis-server.service"
  std::string name() const;
  std::filesystem::path proc(const std::string& file) const;
  std::optional<std::string> variable(const char* name) const;
  /// Why `variable` knows nothing of a process; empty: it knows all.
  std::string why_unseen() const;
  /// What rules call it.
  std::string program_name() const { return called.empty() ? program.filename().string() : called; }
  /// A path as the subject sees it, as we do.
  std::filesystem::path seen(const std::filesystem::path& path) const { return files / path.relative_path(); }
  /// Whether its user may read (4), write (2) a file, by the modes of it and of its folders; groups other
  /// than the first one are not asked. Why not; empty: yes.
  std::string why_not(const std::filesystem::path& path, mode_t access) const;
};

/// What shows more than this user sees. For root nothing does, but for what `otherwise` says.
std::string ask_as_root(const std::string& otherwise = "none: root sees no more of it");

/// All of a file; empty if it cannot be read.
std::string text_of(const std::filesystem::path& file);

/// The same without the spaces around it.
std::string word_of(const std::filesystem::path& file);

}  // namespace rsock::tools::doctor
