// What a program is made of: operations one after the other, over what is open at the time.
#include "program.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace differential {
namespace {

constexpr size_t kMostHandles = 24;

constexpr struct {
  unsigned weight;
  void (*operate)(Program&, Numbers&);
} kOperations[] = {
    {26, operate_bytes_out}, {26, operate_bytes_in},    {14, operate_poll},     {12, operate_sets},
    {14, operate_set_waits}, {12, operate_descriptors}, {12, operate_options},  {6, operate_neighbours},
    {1, operate_files},      {1, operate_urgent},       {1, operate_processes},
};

auto drawn(Numbers& random) {
  unsigned sum = 0;
  for (const auto& operation : kOperations) sum += operation.weight;
  auto at = random.below(sum);
  for (const auto& operation : kOperations) {
    if (at < operation.weight) return operation.operate;
    at -= operation.weight;
  }
  return operate_poll;
}

}  // namespace

bool in_lane_world() {
  static const bool is = getenv("RSOCK_CONFORMANCE_LANE") != nullptr;
  return is;
}

bool End::can_read(size_t wanted, bool whole) const {
  if (urgent || unsure) return false;
  if (timed || over()) return true;
  const auto least = std::max<size_t>(1, whole ? wanted : std::min(lowat, wanted));
  return unread >= least;
}

void Program::run(const std::vector<int>& dropped) {
  Numbers shape(seed_, 0);
  const auto begin = shape.between(1, 4) == 1 ? shape.between(1, 4) : shape.between(1, 2);
  const auto count = shape.between(20, 60);
  for (size_t i = 0; i < begin; ++i) {
    Numbers random(seed_, 1000 + i);
    trace.begin(static_cast<int>(i) - 4);
    connect(random);
    trace.end();
  }
  for (int number = 1; number <= static_cast<int>(count); ++number) {
    if (std::find(dropped.begin(), dropped.end(), number) != dropped.end()) continue;
    Numbers random(seed_, static_cast<uint64_t>(number));
    auto operate = drawn(random);
    if (handles.size() > kMostHandles) operate = operate_descriptors;
    trace.begin(number);
    operate(*this, random);
    trace.end();
    settle();
    if (given_up_) return;
  }
}

// Whatever is left goes at once, and leaves no connection that waits for its time.
Program::~Program() {
  for (auto& handle : handles) {
    if (handle.kind == Handle::Kind::socket) {
      const linger at_once{1, 0};
      setsockopt(handle.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    ::close(handle.fd);
  }
}

Handle* Program::any(Numbers& random, Handle::Kind kind) {
  std::vector<Handle*> all;
  for (auto& handle : handles)
    if (handle.kind == kind) all.push_back(&handle);
  return all.empty() ? nullptr : random.one_of(all);
}

Handle* Program::any(Numbers& random) { return handles.empty() ? nullptr : &random.one_of(handles); }

int Program::any_number(Numbers& random) {
  if (handles.empty() || random.one_in(12)) return random.one_of({-1, kNobody});
  return any(random)->fd;
}

Handle& Program::add(Handle made) {
  forget(made.fd);
  if (made.end) ++made.end->descriptors;
  handles.push_back(std::move(made));
  return handles.back();
}

void Program::forget(int fd) {
  const auto found = std::find_if(handles.begin(), handles.end(), [&](const auto& handle) { return handle.fd == fd; });
  if (found == handles.end()) return;
  const auto gone = *found;
  handles.erase(found);
  closed(gone);
}

void Program::closed(const Handle& handle) {
  unsettled_ = true;
  if (!handle.end || --handle.end->descriptors > 0) return;
  auto& end = *handle.end;
  auto& peer = *end.peer;
  const bool both = end.shut_out && peer.shut_out;
  if (end.urgent) peer.unsure = true;  // who knows what was left unread
  if (!both && !end.urgent && (end.lingers || end.unread > 0)) peer.reset = true;
  end.shut_in = end.shut_out = true;
}

void Program::sent(End& from, size_t bytes) {
  unsettled_ = true;
  if (bytes == 0) return;
  from.sent += bytes;
  from.peer->unread += bytes;
  if (!from.peer->open()) from.reset = true;
  if (from.peer->shut_in && from.peer->shut_out) from.reset = from.peer->reset = true;
}

void Program::shut(End& end, bool in, bool out) {
  unsettled_ = true;
  end.shut_in |= in;
  end.shut_out |= out;
}

std::string content(const End& from, size_t bytes) {
  std::string data(bytes, '\0');
  const auto stream = static_cast<uint64_t>(from.connection * 2 + from.side);
  for (size_t i = 0; i < bytes; ++i) {
    const auto at = from.sent + i;
    data[i] = static_cast<char>(at * 131 + stream * 29 + (at >> 8) * 17);
  }
  return data;
}

void* bad_pointer() {
  static void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page;
}

}  // namespace differential
