// The cases' signals are their own: Catch takes none, and none is ignored because whoever started this process (a shell
// in the background, nohup) ignores it.
#define CATCH_CONFIG_NO_POSIX_SIGNALS
#define CATCH_CONFIG_RUNNER
#include <signal.h>

#include <catch2/catch.hpp>

int main(int argc, char** argv) {
  for (const int ignored : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}) signal(ignored, SIG_DFL);
  return Catch::Session().run(argc, argv);
}
