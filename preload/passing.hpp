#pragma once
// SCM_RIGHTS: a flow whose descriptor is sent to another process goes back to TCP first.

#include <sys/socket.h>

namespace rsock::preload {

// Before libc sends them, on any socket. Bad pointers are left for the kernel to answer.
void look_for_passed_descriptors(const msghdr* message);
void look_for_passed_descriptors(const mmsghdr* messages, unsigned count);

}  // namespace rsock::preload
