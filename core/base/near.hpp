#pragma once
// Whether the other end of a connection is on this host: whether its address is one of ours. Where any
// address can be bound, all seem to be; so they do without a descriptor to find out with. Then whoever looks
// for the peer here finds nobody.
//
// Any thread, no lock; two system calls, which do not block.

#include "core/base/endpoint.hpp"

namespace rsock {

bool is_near(const Endpoint& local, const Endpoint& remote);

}  // namespace rsock
