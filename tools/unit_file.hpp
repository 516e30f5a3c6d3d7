#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rsock::tools {

/// A service of systemd, as its files say it: the unit, and its drop-ins. Nobody is asked but the files below
/// a root.
class Unit {
 public:
  /// `name` without a suffix is a service's. nullopt: there is none, or it is masked.
  static std::optional<Unit> find(const std::filesystem::path& root, const std::string& name);

  /// As if `file`, one of its drop-ins, were not there.
  static std::optional<Unit> find_without(const std::filesystem::path& root, const std::string& name,
                                          const std::filesystem::path& file);

  /// The unit's own name, where it was found by an alias.
  const std::string& name() const { return name_; }
  const std::vector<std::filesystem::path>& files() const { return files_; }

  /// What is assigned to a key of [Service], such as "LimitMEMLOCK": all assignments, or those since the last
  /// empty one.
  std::vector<std::string> all(const std::string& key) const;
  /// The last one; empty: there is none.
  std::string last(const std::string& key) const;
  bool is_on(const std::string& key) const;

  /// The words of all assignments; what is in quotes is in one word.
  std::vector<std::string> words(const std::string& key) const;
  /// What Environment= sets, and UnsetEnvironment= leaves.
  std::optional<std::string> variable(std::string_view name) const;
  /// The executable of ExecStart=.
  std::string program() const;

 private:
  void read(const std::filesystem::path& file);
  void read_drop_ins(const std::filesystem::path& root, const std::filesystem::path& leaving_out);

  std::string name_;
  std::vector<std::filesystem::path> files_;
  std::map<std::string, std::vector<std::string>> service_;
};

/// "no", "off", "0" and "false" are off, and so is nothing; any other word is on, also one that is more than
/// yes.
bool is_on(std::string_view value);

}  // namespace rsock::tools
