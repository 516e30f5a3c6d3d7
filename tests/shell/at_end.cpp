// Uses its socket in a handler of atexit and in the destructor of a library; with the fake core, `finished`
// is written to RSOCK_FAKE_FINISHED by the end of the library, and both must come before it.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "tests/shell/check.hpp"

extern "C" int early_socket();

namespace {

// The handler looks for the mark of the end, which must not be there yet.
void not_finished_yet() {
  CHECK(early_socket() >= 0);
  const char* path = std::getenv("RSOCK_FAKE_FINISHED");
  if (path) CHECK(access(path, F_OK) != 0);
  (void)send(early_socket(), "y", 1, MSG_NOSIGNAL);
}

struct Last {
  ~Last() { not_finished_yet(); }
} last;

}  // namespace

int main(int, char** arguments) {
  std::atexit(not_finished_yet);
  at_quick_exit(not_finished_yet);
  const std::string how = arguments[1];
  if (how == "exit") std::exit(0);
  if (how == "quick_exit") std::quick_exit(0);
  if (how == "_exit") _exit(0);
  if (how == "_Exit") std::_Exit(0);
  return 0;
}
