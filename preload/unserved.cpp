// Calls by which libc or the kernel moves bytes where no lane can follow: the flow goes back to TCP first.

#include <stdarg.h>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

template <class Control>
void to_tcp_for(Control* control) {
  int fd;
  if (!nothing_concerns_us() && get(fd, &control->aio_fildes)) to_tcp(fd);
}

template <class Control>
void to_tcp_for(Control* const* list, int count) {
  if (nothing_concerns_us()) return;
  Control* control;
  for (int i = 0; i < count && get(control, list + i); ++i)
    if (control) to_tcp_for(control);
}

}  // namespace

// libc will read, write and close the descriptor unseen: from here on it is libc's alone.
RSOCK_EXPORT FILE* fdopen(int fd, const char* mode) noexcept {
  if (!find(fd)) return real::fdopen(fd, mode);
  to_tcp(fd);
  FILE* stream = real::fdopen(fd, mode);
  if (stream && !sockets::in_borrowed_memory()) sockets::before_close(fd);
  return stream;
}

RSOCK_EXPORT int vdprintf(int fd, const char* format, va_list arguments) {
  if (find(fd)) to_tcp(fd);
  return real::vdprintf(fd, format, arguments);
}

RSOCK_EXPORT int dprintf(int fd, const char* format, ...) {
  if (find(fd)) to_tcp(fd);
  va_list arguments;
  va_start(arguments, format);
  const int result = real::vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

RSOCK_EXPORT int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments) {
  if (find(fd)) to_tcp(fd);
  return real::__vdprintf_chk(fd, flag, format, arguments);
}

RSOCK_EXPORT int __dprintf_chk(int fd, int flag, const char* format, ...) {
  if (find(fd)) to_tcp(fd);
  va_list arguments;
  va_start(arguments, format);
  const int result = real::__vdprintf_chk(fd, flag, format, arguments);
  va_end(arguments);
  return result;
}

RSOCK_EXPORT int aio_read(aiocb* control) noexcept {
  to_tcp_for(control);
  return real::aio_read(control);
}
RSOCK_EXPORT int aio_read64(aiocb64* control) noexcept {
  to_tcp_for(control);
  return real::aio_read64(control);
}
RSOCK_EXPORT int aio_write(aiocb* control) noexcept {
  to_tcp_for(control);
  return real::aio_write(control);
}
RSOCK_EXPORT int aio_write64(aiocb64* control) noexcept {
  to_tcp_for(control);
  return real::aio_write64(control);
}
RSOCK_EXPORT int lio_listio(int mode, aiocb* const* list, int count, sigevent* event) noexcept {
  to_tcp_for(list, count);
  return real::lio_listio(mode, list, count, event);
}
RSOCK_EXPORT int lio_listio64(int mode, aiocb64* const* list, int count, sigevent* event) noexcept {
  to_tcp_for(list, count);
  return real::lio_listio64(mode, list, count, event);
}
