#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tools/unit_file.hpp"

namespace rsock::tools {

/// What a unit's sandbox forbids the library, and how a drop-in allows it.
struct Hindrance {
  std::string setting;             ///< as the unit says it: "PrivateUsers=true"
  std::string what;                ///< what the library lacks so
  std::vector<std::string> lines;  ///< of a drop-in that gives it that; none: an administrator has to
  bool keeps_out = false;          ///< no flow gets into a lane, else some may not
};

struct Needs {
  std::filesystem::path library, config;
  bool rdma = true;                  ///< else shared memory alone
  std::filesystem::path root = "/";  ///< where files are that the unit names
};

/// The hindrances in what the files of `unit` say, in one order.
std::vector<Hindrance> hindrances(const Unit& unit, const Needs& needs);

/// "8M", "infinity", "1024:2048" (the hard one), in bytes or as a number; UINT64_MAX is infinity, and
/// `otherwise` what is none.
std::uint64_t limit_of(const std::string& text, std::uint64_t otherwise);

}  // namespace rsock::tools
