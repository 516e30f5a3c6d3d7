#pragma once
// Threads of this process, seen from another one.

#include <sys/syscall.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "pair.hpp"

namespace conformance {

// It sleeps in a system call, and it is not for a lock that it waits. A thread that waits for memory sleeps, too, in no
// call or in another.
inline bool sleeps_in_call(pid_t thread) {
  char path[64], text[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
  if (FILE* file = fopen(path, "re")) {
    if (!fgets(text, sizeof text, file)) text[0] = '\0';
    fclose(file);
  }
  char* end = text;
  const long number = strtol(text, &end, 10);  // "running" is none, and -1 is no call
  return end != text && number >= 0 && number != SYS_futex;
}

// It does so by now, and for a while.
template <class Thread, class Over>
bool falls_asleep(const Thread& thread, Over over) {
  int in_a_row = 0;
  return eventually([&] { return (in_a_row = sleeps_in_call(thread) ? in_a_row + 1 : 0) >= 20 || over(); }) && !over();
}

}  // namespace conformance
