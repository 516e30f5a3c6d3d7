#pragma once
// What start.cpp registers with libc, so that fork in all its forms and every orderly end of the process
// reach the core.

namespace rsock::preload {

// Children of fork, daemon and forkpty; the end by exit, return from main, or quick_exit. Called once.
void register_hooks();

// Before prctl(2) and seccomp(2): the program may put itself under a filter of system calls.
void before_prctl(int option, long mode, long filter);
void before_seccomp(long operation, long filter);

}  // namespace rsock::preload
