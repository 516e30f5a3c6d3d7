// Segments as peers may offer them.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "core/fabric/shm/segment.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr size_t kSome = 1 << 20;

UniqueFd memfd(size_t size, int seals, unsigned flags = MFD_ALLOW_SEALING) {
  UniqueFd fd(memfd_create("test", flags | MFD_CLOEXEC));
  REQUIRE(fd.get() >= 0);
  REQUIRE(ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  if (seals) REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

}  // namespace

TEST_CASE("a segment is the same memory for both ends", "[shm_segment]") {
  UniqueFd fd;
  auto own = Segment::make(kSome, fd);
  REQUIRE(own);
  CHECK(own->size() == kRings + kSome);
  auto peer = Segment::open(fd.get());
  REQUIRE(peer);
  CHECK(peer->base() != own->base());
  CHECK(peer->queue().sleeping == 1);
  *peer->rings(kRings + 5, 1) = std::byte{42};
  CHECK(*own->rings(kRings + 5, 1) == std::byte{42});
  CHECK(ftruncate(fd.get(), 0) != 0);
}

TEST_CASE("rings are given out within the segment only", "[shm_segment]") {
  UniqueFd fd;
  auto made = Segment::make(kSome, fd);
  REQUIRE(made);
  CHECK(made->rings(kRings, kSome) != nullptr);
  CHECK(made->rings(kRings + kSome - 4096, 4096) != nullptr);
  CHECK(made->rings(kRings, kSome + 1) == nullptr);
  CHECK(made->rings(kRings + 1, kSome) == nullptr);
  CHECK(made->rings(0, 4096) == nullptr);
  CHECK(made->rings(kRings - 1, 4096) == nullptr);
  CHECK(made->rings(kRings + kSome, 1) == nullptr);
  CHECK(made->rings(UINT64_MAX, 4096) == nullptr);
  CHECK(made->rings(UINT64_MAX - 4095, 4096) == nullptr);
  CHECK(made->rings(1ull << 63, 1ull << 63) == nullptr);
}

TEST_CASE("memory that could go away is refused", "[shm_segment]") {
  constexpr int kBoth = F_SEAL_SHRINK | F_SEAL_GROW;
  CHECK(Segment::open(memfd(kRings + kSome, kBoth).get()));
  CHECK(Segment::open(memfd(kRings + kSome, 0).get()).is(EPROTO));
  CHECK(Segment::open(memfd(kRings + kSome, F_SEAL_GROW).get()).is(EPROTO));
  CHECK(Segment::open(memfd(kRings + kSome, F_SEAL_SHRINK).get()).is(EPROTO));
  CHECK(Segment::open(memfd(kRings - kPage, kBoth).get()).is(EPROTO));
  CHECK(Segment::open(memfd(0, kBoth).get()).is(EPROTO));
  CHECK(Segment::open(memfd(kRings + 100, kBoth).get()).is(EPROTO));
  CHECK(Segment::open(memfd(2 * kLargestSegment, kBoth).get()).is(EPROTO));
  // Nobody may write there, so neither can we.
  CHECK_FALSE(Segment::open(memfd(kRings + kSome, kBoth | F_SEAL_WRITE).get()));
}

TEST_CASE("what is no memory is refused", "[shm_segment]") {
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const UniqueFd out(pipes[0]), in(pipes[1]);
  CHECK(Segment::open(out.get()).is(EPROTO));
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY));
  CHECK(Segment::open(file.get()).is(EPROTO));
  CHECK_FALSE(Segment::open(-1));
}

}  // namespace rsock::fabric::shm
