#pragma once

#include "config/source.hpp"

namespace rsock::config {

/// Reads the files of this host for `user`. Waits for no pipe.
inline Reader host_reader(uid_t user) {
  constexpr auto kMost = kTextLimit + 1;
  return {[](const std::string& path) { return read_any_file(path.c_str(), kMost); }, user,
          [](const std::string& path) { return read_file(path.c_str(), kMost); },
          [](const std::string& path, const Reader::Trusted& trusted) {
            return read_folder(path.c_str(), trusted, is_part, kPartsMost + 1);
          }};
}

}  // namespace rsock::config
