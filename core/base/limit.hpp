#pragma once
// The limit on descriptors, and what is left below it. Any thread.

#include <atomic>
#include <climits>

#include "core/base/result.hpp"

namespace rsock::sys {

// A number below which the program's own are: what the library has there is what the program lacks.
int soft_limit();
// A descriptor of the program's with this number, or a higher one, says that few are left, and that the
// library has some of those below.
inline constinit std::atomic<int> crowded_from{INT_MAX};
// The same of any number, whatever the library has.
bool leaves_few(int fd);
// duplicate_high() for what the library can do without: EMFILE also where the program would be left with few
// numbers.
Result<int> duplicate_spare(int fd);
// So many numbers are free that the library may use some of the program's.
bool has_spare_numbers();

}  // namespace rsock::sys
