#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace rsock::tools {

/// What an executable or a library says of itself.
struct Elf {
  enum class Kind {
    no_elf,     ///< a script, or anything else
    foreign,    ///< for another machine, or of 32 bits
    no_loader,  ///< static, or a library
    loaded      ///< by the dynamic linker that it names
  };
  Kind kind = Kind::no_elf;
  std::string loader;  ///< path of the dynamic linker
  std::string glibc;   ///< the highest version GLIBC_2.N that it names, which is what it needs, or what libc
                       ///< itself has: "2.36"
  bool is_go = false;
};

/// nullopt: it cannot be read (errno). Whatever the file holds, no more than it is read.
std::optional<Elf> read_elf(const std::filesystem::path& path);

/// What a script begins with, "#!/bin/sh -e": the program's path; empty: it is none.
std::string interpreter_of(const std::filesystem::path& path);

/// Whether `version`, "2.9", is older than `other`, "2.36".
bool is_older(const std::string& version, const std::string& other);

}  // namespace rsock::tools
