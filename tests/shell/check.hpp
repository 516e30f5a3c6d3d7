#pragma once
// A check that fails ends the test with the line and the errno.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define CHECK(condition)                                                                                            \
  do {                                                                                                              \
    if (!(condition)) {                                                                                             \
      std::fprintf(stderr, "%s:%d: not so: %s (errno %s)\n", __FILE__, __LINE__, #condition, std::strerror(errno)); \
      std::exit(1);                                                                                                 \
    }                                                                                                               \
  } while (false)
#define CHECK_ERRNO(call, code) \
  do {                          \
    errno = 0;                  \
    CHECK((call) == -1);        \
    CHECK(errno == (code));     \
  } while (false)
