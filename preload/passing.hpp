#pragma once
// SCM_RIGHTS: a flow whose descriptor is sent to another process goes back to TCP first.

#include <sys/socket.h>

#include "core/base/copy.hpp"

namespace rsock::preload {

// Before libc sends them, on any socket. Bad pointers are left for the kernel to answer.
void look_for_passed_descriptors(const msghdr* message);
void look_for_passed_descriptors(const mmsghdr* messages, unsigned count);

// What came with a message that the kernel has filled in, or with a few: a listener among it may be one whose
// connections a rule selects. Gives `got`.
ssize_t adopt_received(ssize_t got, const msghdr* message);
inline bool has_control(const msghdr* message) { return word_at(&message->msg_controllen) > 0; }
void look_for_received_descriptors(const mmsghdr* messages, int count);
// `fd` came from elsewhere.
void adopt_if_listener(int fd);

}  // namespace rsock::preload
