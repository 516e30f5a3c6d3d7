#include "tools/elf.hpp"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "core/base/unique_fd.hpp"

namespace rsock::tools {
namespace {

constexpr std::size_t kMost = 4 << 20;  // of one part; names of symbols are no more

class File {
 public:
  explicit File(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}

  bool is_open() const { return fd_.get() >= 0; }
  std::string bytes(std::uint64_t offset, std::uint64_t size) const {
    std::string bytes(std::min<std::uint64_t>(size, kMost), '\0');
    const auto got =
        offset <= INT64_MAX ? ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) : -1;
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }
  template <class T>
  bool get(std::uint64_t offset, T& value) const {
    const auto read = bytes(offset, sizeof value);
    if (read.size() != sizeof value) return false;
    std::copy(read.begin(), read.end(), reinterpret_cast<char*>(&value));
    return true;
  }

 private:
  UniqueFd fd_;
};

std::string text_at(std::string_view strings, std::size_t at) {
  if (at >= strings.size()) return {};
  return std::string(strings.substr(at, strings.find('\0', at) - at));
}

std::string highest_glibc(std::string_view strings) {
  constexpr std::string_view kPrefix = "GLIBC_2.";
  std::string highest;
  for (auto at = strings.find(kPrefix); at != strings.npos; at = strings.find(kPrefix, at + 1)) {
    auto version = text_at(strings, at + kPrefix.size() - 2);
    if (highest.empty() || is_older(highest, version)) highest = std::move(version);
  }
  return highest;
}

void read_sections(const File& file, const Elf64_Ehdr& head, Elf& elf) {
  const auto section = [&](unsigned index, Elf64_Shdr& to) {
    return index < head.e_shnum && file.get(head.e_shoff + index * sizeof to, to);
  };
  Elf64_Shdr names{}, one{};
  if (!section(head.e_shstrndx, names)) return;
  const auto strings = file.bytes(names.sh_offset, names.sh_size);
  for (unsigned i = 0; i < head.e_shnum && section(i, one); ++i) {
    const auto name = text_at(strings, one.sh_name);
    if (name == ".go.buildinfo" || name == ".note.go.buildid") elf.is_go = true;
    if (name == ".dynstr") elf.glibc = highest_glibc(file.bytes(one.sh_offset, one.sh_size));
  }
}

}  // namespace

bool is_older(const std::string& version, const std::string& other) {
  unsigned a[3]{}, b[3]{};
  std::sscanf(version.c_str(), "%u.%u.%u", &a[0], &a[1], &a[2]);
  std::sscanf(other.c_str(), "%u.%u.%u", &b[0], &b[1], &b[2]);
  return std::lexicographical_compare(std::begin(a), std::end(a), std::begin(b), std::end(b));
}

std::optional<Elf> read_elf(const std::filesystem::path& path) {
  const File file(path);
  if (!file.is_open()) return std::nullopt;
  Elf elf;
  Elf64_Ehdr head{};
  if (file.bytes(0, SELFMAG) != std::string_view(ELFMAG, SELFMAG)) return elf;
  elf.kind = Elf::Kind::foreign;
  if (!file.get(0, head) || head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_X86_64) return elf;
  elf.kind = Elf::Kind::no_loader;
  for (unsigned i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr part{};
    if (!file.get(head.e_phoff + i * sizeof part, part) || part.p_type != PT_INTERP) continue;
    elf.kind = Elf::Kind::loaded;
    elf.loader = text_at(file.bytes(part.p_offset, part.p_filesz), 0);
  }
  read_sections(file, head, elf);
  return elf;
}

std::string interpreter_of(const std::filesystem::path& path) {
  const auto begin = File(path).bytes(0, 256);
  if (!begin.starts_with("#!")) return {};
  const auto line = begin.substr(2, begin.find('\n') - 2);
  const auto from = line.find_first_not_of(" \t");
  if (from == line.npos) return {};
  return line.substr(from, line.find_first_of(" \t", from) - from);
}

}  // namespace rsock::tools
