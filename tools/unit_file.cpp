#include "tools/unit_file.hpp"

#include <algorithm>
#include <array>
#include <fstream>

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

/// The first one that has a file of some name decides (systemd.unit(5)).
constexpr std::array kFolders = {"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system",
                                 "usr/lib/systemd/system", "lib/systemd/system"};

/// "redis@1.service": "redis@.service"; empty: no instance.
std::string template_of(const std::string& name) {
  const auto at = name.find('@');
  return at == name.npos ? "" : name.substr(0, at + 1) + ".service";
}

std::string unit_folder(const std::string& name) { return name.empty() ? "" : name + ".d"; }

/// Below `root`, also if a link is an absolute one.
fs::path followed(const fs::path& root, fs::path file) {
  std::error_code error;
  for (int links = 0; links < 8 && fs::is_symlink(file, error); ++links) {
    const auto target = fs::read_symlink(file, error);
    file = target.is_absolute() ? root / target.relative_path() : file.parent_path() / target;
  }
  return file.lexically_normal();
}

std::string trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r");
  if (from == text.npos) return {};
  return std::string(text.substr(from, text.find_last_not_of(" \t\r") - from + 1));
}

/// A line that ends in a backslash goes on in the next one.
bool read_line(std::istream& stream, std::string& line) {
  line.clear();
  for (std::string part; std::getline(stream, part);) {
    if (const auto text = trimmed(part); !line.empty() && (text.starts_with('#') || text.starts_with(';'))) continue;
    if (!part.ends_with('\\')) return line += part, true;
    part.back() = ' ';
    line += part;
  }
  return !line.empty();
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  char quote = 0;
  bool in_word = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      word += text[++i], in_word = true;
    } else if (quote != 0 ? c == quote : c == '"' || c == '\'') {
      quote = quote != 0 ? 0 : c, in_word = true;
    } else if (quote == 0 && (c == ' ' || c == '\t')) {
      if (in_word) words.push_back(std::move(word));
      word.clear(), in_word = false;
    } else {
      word += c, in_word = true;
    }
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

/// A percent sign that stands for itself is doubled.
std::string without_specifiers(std::string text) {
  for (auto at = text.find("%%"); at != text.npos; at = text.find("%%", at + 1)) text.erase(at, 1);
  return text;
}

}  // namespace

bool is_on(std::string_view value) {
  constexpr std::array kOff = {"", "0", "no", "n", "false", "f", "off"};
  return std::ranges::find(kOff, value) == kOff.end();
}

std::optional<Unit> Unit::find(const fs::path& root, const std::string& name) { return find_without(root, name, {}); }

std::optional<Unit> Unit::find_without(const fs::path& root, const std::string& name, const fs::path& file) {
  if (name.empty() || name.find('/') != name.npos) return std::nullopt;
  Unit unit;
  unit.name_ = name.ends_with(".service") ? name : name + ".service";
  std::error_code error;
  for (const auto& wanted : {unit.name_, template_of(unit.name_)}) {
    for (const auto* folder : kFolders) {
      const auto found = root / folder / wanted;
      if (wanted.empty() || !fs::exists(fs::symlink_status(found, error))) continue;
      const auto real = followed(root, found);
      if (!fs::is_regular_file(real, error)) return std::nullopt;
      if (wanted == unit.name_ && real.filename() != wanted && template_of(real.filename()).empty())
        unit.name_ = real.filename();
      unit.read(real);
      unit.read_drop_ins(root, file);
      return unit;
    }
  }
  return std::nullopt;
}

void Unit::read_drop_ins(const fs::path& root, const fs::path& leaving_out) {
  std::map<std::string, fs::path> chosen;  // by name: that is their order, wherever they are
  for (const auto& owner : {unit_folder(name_), unit_folder(template_of(name_)), std::string("service.d")}) {
    if (owner.empty()) continue;
    for (const auto* folder : kFolders) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(root / folder / owner, error))
        if (entry.path().extension() == ".conf") chosen.emplace(entry.path().filename(), entry.path());
    }
  }
  for (const auto& [name, file] : chosen)
    if (file != leaving_out) read(followed(root, file));
}

void Unit::read(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return;
  files_.push_back(file);
  std::ifstream stream(file);
  std::string line;
  bool in_service = false;
  while (read_line(stream, line)) {
    const auto text = trimmed(line);
    if (text.empty() || text.starts_with('#') || text.starts_with(';')) continue;
    if (text.starts_with('[')) {
      in_service = text == "[Service]";
      continue;
    }
    const auto sign = text.find('=');
    if (!in_service || sign == text.npos) continue;
    auto& values = service_[trimmed(text.substr(0, sign))];
    const auto value = trimmed(text.substr(sign + 1));
    if (value.empty())
      values.clear();
    else
      values.push_back(value);
  }
}

std::vector<std::string> Unit::all(const std::string& key) const {
  const auto found = service_.find(key);
  return found == service_.end() ? std::vector<std::string>() : found->second;
}

std::string Unit::last(const std::string& key) const {
  const auto values = all(key);
  return values.empty() ? "" : values.back();
}

bool Unit::is_on(const std::string& key) const { return tools::is_on(last(key)); }

std::vector<std::string> Unit::words(const std::string& key) const {
  std::vector<std::string> words;
  for (const auto& value : all(key))
    for (auto& word : words_of(value)) words.push_back(std::move(word));
  return words;
}

std::optional<std::string> Unit::variable(std::string_view name) const {
  std::optional<std::string> value;
  for (const auto& word : words("Environment"))
    if (word.starts_with(name) && word.substr(name.size()).starts_with('='))
      value = without_specifiers(word.substr(name.size() + 1));
  for (const auto& word : words("UnsetEnvironment"))
    if (word == name || (value && word == std::string(name) + "=" + *value)) return std::nullopt;
  return value;
}

std::string Unit::program() const {
  const auto command = words("ExecStart");
  if (command.empty()) return {};
  const auto from = command.front().find_first_not_of("@-:+!|");
  return from == command.front().npos ? "" : command.front().substr(from);
}

}  // namespace rsock::tools
