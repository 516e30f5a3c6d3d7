// Runs programs made from seeds, one after the other, and writes what each did: see `run`.
//
//   differential [--first SEED] [--programs N] [--drop NUMBER]... [--eager] [--spoil]
//
// Each program's trace begins with `== SEED` and ends with `-- SEED`, connections included; at the end the number of
// connections that were seen to enter their lane goes to stderr. --eager writes each line at once.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "program.hpp"

using namespace differential;

int main(int count, char** words) {
  uint64_t first = 1, programs = 1;
  std::vector<int> dropped;
  Trace trace;
  bool spoiled = false;
  for (int i = 1; i < count; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(words[i], name) == 0; };
    if (is("--eager")) {
      trace.eager = true;
    } else if (is("--spoil")) {
      spoiled = true;
    } else if (i + 1 < count && is("--first")) {
      first = std::strtoull(words[++i], nullptr, 10);
    } else if (i + 1 < count && is("--programs")) {
      programs = std::strtoull(words[++i], nullptr, 10);
    } else if (i + 1 < count && is("--drop")) {
      dropped.push_back(std::atoi(words[++i]));
    } else {
      std::fprintf(stderr, "differential: what is %s?\n", words[i]);
      return 2;
    }
  }
  struct sigaction counting {};
  counting.sa_handler = [](int) { broken_pipes = broken_pipes + 1; };
  counting.sa_flags = SA_RESTART;
  sigaction(SIGPIPE, &counting, nullptr);
  for (auto seed = first; seed < first + programs; ++seed) {
    trace.add("== %llu", static_cast<unsigned long long>(seed));
    trace.end();
    trace.flush();  // whatever happens now is this program's doing
    {
      Program program(seed, trace, spoiled);
      program.run(dropped);
    }
    trace.add("-- %llu", static_cast<unsigned long long>(seed));
    trace.end();
    trace.flush();
  }
  std::fprintf(stderr, "entered %d\n", entered);
}
