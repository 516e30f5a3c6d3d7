#pragma once
// What start.cpp registers with libc, so that fork in all its forms and every orderly end of the process
// reach the core.

namespace rsock::preload {

// Children of fork, daemon and forkpty; the end by exit, return from main, or quick_exit. Called once.
void register_hooks();

}  // namespace rsock::preload
