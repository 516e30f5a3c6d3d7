#pragma once

#include <string>
#include <vector>

namespace rsock::tools::doctor {

enum class Verdict {
  ok,
  warn,  ///< some flows stay on TCP, or may
  fail   ///< the library is not there, or no flow gets into its lane
};

/// One thing that was looked at.
struct Finding {
  std::string what;  ///< a word or two, the same for all findings of one kind
  Verdict verdict = Verdict::ok;
  std::string text;
  std::string remedy = {};  ///< empty if it is ok
};

using Findings = std::vector<Finding>;

}  // namespace rsock::tools::doctor
