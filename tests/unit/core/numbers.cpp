#include "core/base/numbers.hpp"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <optional>
#include <thread>

#include "core/base/clock.hpp"
#include "core/base/own.hpp"
#include "core/base/unique_fd.hpp"

using namespace rsock;

namespace {

class AsTheLibrarys {
 public:
  AsTheLibrarys() { own::trusted = true; }
  ~AsTheLibrarys() { own::trusted = false; }
};

}  // namespace

TEST_CASE("Whoever makes a descriptor for the program waits while one of the library's has its number", "[numbers]") {
  const AsTheLibrarys own;
  CHECK_FALSE(numbers::are_taken());
  const auto fd = out_of_the_way([] {
    CHECK(numbers::are_taken());
    return sys::open("/dev/null", O_RDONLY | O_CLOEXEC, 0);
  });
  CHECK(fd);
  CHECK_FALSE(numbers::are_taken());
  std::optional<numbers::Taken> one(std::in_place), other(std::in_place);
  std::thread program([] { numbers::await(); });
  one.reset();
  CHECK(numbers::are_taken());
  other.reset();
  program.join();
  CHECK_FALSE(numbers::are_taken());
}

TEST_CASE("A thread of the program's takes no number: its own signal handler would wait for it", "[numbers]") {
  const numbers::Taken taken;
  CHECK_FALSE(numbers::are_taken());
}

TEST_CASE("Whoever keeps numbers for too long is not waited for until all are given back", "[numbers]") {
  const AsTheLibrarys own;
  std::optional<numbers::Taken> slow(std::in_place);
  const auto begun = now();
  numbers::await();
  CHECK(now() - begun >= milliseconds(1000));
  CHECK_FALSE(numbers::are_taken());
  {
    const numbers::Taken another;
    CHECK_FALSE(numbers::are_taken());
  }
  slow.reset();
  const numbers::Taken anew;
  CHECK(numbers::are_taken());
}
