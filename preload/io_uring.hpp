#pragma once

namespace rsock::preload {

// The program is about to make a ring of io_uring. False: it gets none, ENOSYS. Blocks for a bounded time.
bool may_make_ring();

}  // namespace rsock::preload
