#define CATCH_CONFIG_RUNNER
#include <unistd.h>

#include <catch2/catch.hpp>

#include "core/base/kernel.hpp"
#include "core/base/log.hpp"

int main(int argc, char** argv) {
  rsock::kernel = {&::epoll_pwait2, &::ppoll, &::clock_gettime};
  if (getenv("RSOCK_LOG")) rsock::log::configure(getenv("RSOCK_LOG"), "unit");
  return Catch::Session().run(argc, argv);
}
