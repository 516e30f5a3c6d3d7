#pragma once
// Memory for when there is none. What the library has begun it must be able to finish: a queue that is half taken, a
// ring half copied away would be lost bytes. So its operator new turns to a reserve, set aside from the start, before
// it throws; what is given back there is there again. While any of it is out, nothing new is begun (short_of_memory):
// flows stay on TCP.
//
// Any thread, and a child of fork whatever its parent's other threads were at: no lock, a bit for each cell.

#include <cstddef>

namespace rsock::reserve {

// nullptr: it has none of that size left.
void* take(size_t size);
// False if it is not the reserve's.
bool give_back(void* memory);
// An allocation failed a moment ago.
bool short_of_memory();

}  // namespace rsock::reserve
