// A librdmacm.so.1 that takes its time to load, with a file open all the while, and has nothing in it. SLOW_RDMA:
// milliseconds.

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace {

[[gnu::constructor]] void load() {
  const auto* time = std::getenv("SLOW_RDMA");
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  std::this_thread::sleep_for(std::chrono::milliseconds(time ? std::atoi(time) : 0));
  if (file >= 0) close(file);
}

}  // namespace
