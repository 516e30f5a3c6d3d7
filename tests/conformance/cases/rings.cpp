// Programs that ask for a ring of io_uring, and use epoll sets by it if they get one. A kernel may have none to give,
// and so may the library: what a program then finds is the same.

#include <dlfcn.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../sets.hpp"

using namespace conformance;

namespace {

// What there may be instead of a ring.
bool refused(int error) { return error == ENOSYS || error == EPERM; }

// A ring for one operation at a time; none if it is refused.
class Ring {
 public:
  Ring() {
    io_uring_params it{};
    fd_ = Fd(static_cast<int>(syscall(SYS_io_uring_setup, 4, &it)));
    if (fd_ < 0) {
      CHECK(refused(errno));
      return;
    }
    auto* queue = map(it.sq_off.array + it.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    auto* results = map(it.cq_off.cqes + it.cq_entries * sizeof(io_uring_cqe), IORING_OFF_CQ_RING);
    operation_ = reinterpret_cast<io_uring_sqe*>(map(it.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    tail_ = reinterpret_cast<unsigned*>(queue + it.sq_off.tail);
    order_ = reinterpret_cast<unsigned*>(queue + it.sq_off.array);
    entries_ = it.sq_entries;
    head_ = reinterpret_cast<unsigned*>(results + it.cq_off.head);
    results_ = reinterpret_cast<io_uring_cqe*>(results + it.cq_off.cqes);
    results_count_ = it.cq_entries;
  }
  explicit operator bool() const { return fd_ >= 0; }

  int epoll_ctl(int set, int what, int fd, epoll_event& event) {
    const unsigned tail = *tail_;
    order_[tail % entries_] = 0;
    *operation_ = {};
    operation_->opcode = IORING_OP_EPOLL_CTL;
    operation_->fd = set;
    operation_->off = static_cast<uint64_t>(fd);
    operation_->len = static_cast<unsigned>(what);
    operation_->addr = reinterpret_cast<uintptr_t>(&event);
    __atomic_store_n(tail_, tail + 1, __ATOMIC_RELEASE);
    REQUIRE(syscall(SYS_io_uring_enter, static_cast<int>(fd_), 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) == 1);
    const auto result = results_[*head_ % results_count_].res;
    __atomic_store_n(head_, *head_ + 1, __ATOMIC_RELEASE);
    return result;
  }

 private:
  char* map(size_t size, off_t what) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, what);
    REQUIRE(at != MAP_FAILED);
    return static_cast<char*>(at);
  }

  Fd fd_;
  io_uring_sqe* operation_ = nullptr;
  unsigned *tail_ = nullptr, *order_ = nullptr, *head_ = nullptr;
  io_uring_cqe* results_ = nullptr;
  unsigned entries_ = 0, results_count_ = 0;
};

template <class Function>
Function* liburings(const char* name) {
  static void* const loaded = dlopen("liburing.so.2", RTLD_NOW | RTLD_GLOBAL);
  (void)loaded;
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

// Room for liburing's own structures.
struct alignas(64) Room {
  char bytes[1024]{};
};

void exchange(const Pair& pair) {
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  arrive(pair, "x");
  CHECK(set.report() == "IN");
  CHECK(receive(pair.client, 1) == "x");
}

}  // namespace

TEST_CASE("io_uring_setup: members of an epoll set come by a ring, if there is one",
          "[io_uring_setup][syscall][epoll_wait]") {
  Ring ring;
  const EpollSet set;
  const auto pair = connected({.prepare = [&](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (ring)
      CHECK(ring.epoll_ctl(set, EPOLL_CTL_ADD, fd, event) == 0);
    else
      CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
  }});
  for (int i = 0; i < 100; ++i) {
    send_all(pair.server, "x");
    const auto events = set.wait(kPatience);
    REQUIRE(events.size() == 1);
    CHECK(events[0].data.fd == pair.client);
    CHECK(receive(pair.client, 1) == "x");
  }
}

TEST_CASE("io_uring_setup: asked for while a connection is open", "[io_uring_setup][syscall]") {
  const auto pair = connected();
  const Ring ring;
  exchange(pair);
}

TEST_CASE("io_uring_queue_init: liburing has a ring, or has none", "[io_uring_setup][io_uring_queue_init]") {
  const auto pair = connected();
  if (auto* init = liburings<int(unsigned, void*, unsigned)>("io_uring_queue_init")) {
    Room ring;
    const int made = init(4, &ring, 0);
    CHECK((made == 0 || refused(-made)));
    if (made == 0) liburings<void(void*)>("io_uring_queue_exit")(&ring);
  }
  if (auto* setup = liburings<int(unsigned, io_uring_params*)>("io_uring_setup")) {
    io_uring_params parameters{};
    const Fd made(setup(4, &parameters));
    CHECK((made >= 0 || refused(-made)));
  }
  exchange(pair);
}

TEST_CASE("io_uring_queue_init_params, io_uring_queue_init_mem: the same",
          "[io_uring_queue_init_params][io_uring_queue_init_mem]") {
  const auto pair = connected();
  io_uring_params parameters{};
  if (auto* init = liburings<int(unsigned, void*, io_uring_params*)>("io_uring_queue_init_params")) {
    Room ring;
    const int made = init(4, &ring, &parameters);
    CHECK((made == 0 || refused(-made)));
    if (made == 0) liburings<void(void*)>("io_uring_queue_exit")(&ring);
  }
  // Which liburing has since its version 2.5.
  if (auto* init = liburings<int(unsigned, void*, io_uring_params*, void*, size_t)>("io_uring_queue_init_mem");
      init && anything_selected()) {
    Room ring;
    parameters = {};
    CHECK(refused(-init(4, &ring, &parameters, nullptr, 0)));
  }
  exchange(pair);
}
