#pragma once

#include <string>
#include <vector>

#include "tools/exit_status.hpp"

namespace rsock::tools {

struct ExplainArguments {
  std::string reason;     ///< its key; empty: all reasons
  bool json = false;      ///< an object, or an array of them, in place of text
  bool markdown = false;  ///< the table of all reasons, as it is in the README
  bool man = false;       ///< all of them, as a section of librsock(7)
};

/// `rsock explain`: what is known of the reasons why flows are on TCP, from their one table (core/base/reasons.def).
/// kUsage for a reason that there is not, having named those that are near on stderr.
ExitStatus explain(const ExplainArguments& arguments);

/// The keys of all reasons.
std::vector<std::string> reason_keys();

/// "no-device: no RDMA device serves …", for a key that another process gave; the key alone if this release does not
/// know it.
std::string with_meaning(const std::string& key);

}  // namespace rsock::tools
