#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <unistd.h>

#include "core/base/kernel.hpp"

int main(int argc, char** argv) {
  rsock::kernel = {&::syscall, &::epoll_pwait2, &::ppoll};
  return Catch::Session().run(argc, argv);
}
