#pragma once
// Why a selected flow is on TCP: the keys of "fallback" in the statistics, and what is told of them to users
// (reasons.def).

#include <string_view>

namespace rsock {

enum class Reason {
#define RSOCK_REASON(name, key, meaning, cause, proof, remedy) name,
#include "core/base/reasons.def"
#undef RSOCK_REASON
};

struct ReasonTexts {
  std::string_view key;
  std::string_view meaning;  // one line
  std::string_view cause, proof, remedy;
};

// In the order of Reason. What nobody reads is in no program: the library has the keys alone.
inline constexpr ReasonTexts kReasonTexts[] = {
#define RSOCK_REASON(name, key, meaning, cause, proof, remedy) {key, meaning, cause, proof, remedy},
#include "core/base/reasons.def"
#undef RSOCK_REASON
};

inline constexpr std::string_view kReasonKeys[] = {
#define RSOCK_REASON(name, key, meaning, cause, proof, remedy) key,
#include "core/base/reasons.def"
#undef RSOCK_REASON
};
inline constexpr size_t kReasons = sizeof kReasonKeys / sizeof *kReasonKeys;

inline constexpr std::string_view key(Reason reason) { return kReasonKeys[static_cast<size_t>(reason)]; }

}  // namespace rsock
