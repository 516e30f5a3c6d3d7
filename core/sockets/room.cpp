// A call of the program's finds no free descriptor, and the library has some where the program's are.

#include <sys/syscall.h>

#include "core/base/limit.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"
#include "core/engine/service/service.hpp"
#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

// nullptr: nothing can be given back, or not now.
engine::Service* service_at_hand() {
  if (idle() || own::trusted || signals.held.load(std::memory_order_relaxed) > 0 || in_borrowed_memory())
    return nullptr;
  auto* const service = state.engine->service_if_any();
  return service && service->runs() ? service : nullptr;
}

bool has_some_of_the_programs() {
  const int limit = sys::soft_limit();
  for (int fd = own::next(0); fd >= 0 && fd < limit; fd = own::next(fd + 1))
    if (fd != log::descriptor()) return true;
  return false;
}

void await_bells() {
  constexpr auto kPatience = milliseconds(100);
  constexpr timespec kTurn{0, 200'000};
  for (const auto deadline = now() + kPatience; Bell::to_come_back > 0 && now() < deadline;)
    kernel.syscall(SYS_ppoll, nullptr, 0, &kTurn, nullptr, 0);
}

}  // namespace

bool make_room() {
  static constinit std::atomic<bool> ever{false};
  auto* const service = service_at_hand();
  if (!service) return false;
  // Another thread may have made room since this one's call.
  if (!has_some_of_the_programs()) return ever;
  uint32_t asked = 0;
  {
    const Section section;
    asked = service->ask_for_room();
  }
  service->await_room(asked);
  await_bells();
  return ever = true;
}

void make_room_soon() {
  auto* const service = service_at_hand();
  if (!service) return;
  const Section section;
  if (sys::crowded_from != INT_MAX) (void)service->ask_for_room();
}

}  // namespace rsock::sockets
