#pragma once
// The line to the device, which is plugged in beside the library: the socket `device` in the same folder.
// Every system call is made by an instruction of our own, never by libc's name for it: that may be the one
// that is tested. Any thread.

#include <pthread.h>

#include <cerrno>
#include <initializer_list>

#include "core/base/system_call.hpp"
#include "tests/fabric/wire.hpp"

namespace fabric {

// -1 and errno for an error, as libc has it.
template <class... Arguments>
long call(long number, Arguments... arguments) {
  const long answer = rsock::system_call(number, arguments...);
  return rsock::is_error(answer) ? (errno = static_cast<int>(-answer), -1) : answer;
}

class Locked {
 public:
  explicit Locked(pthread_mutex_t& mutex) : mutex_(mutex) { pthread_mutex_lock(&mutex_); }
  ~Locked() { pthread_mutex_unlock(&mutex_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

// Memory that the device maps as well, zeros at first; a child of fork has none of it.
class Shared {
 public:
  bool make(size_t size);  // false and errno
  void end();
  template <class Type>
  Type* as() const {
    return static_cast<Type*>(at_);
  }
  // For the device, until it has it; then let_go().
  int fd() const { return fd_; }
  void let_go();

 private:
  void* at_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;
};

// `fd` is the caller's, who may give it another number between calls.
class Line {
 public:
  // False and errno: ENODEV where there is no device.
  bool open(int& fd, Verb first, std::initializer_list<int> descriptors);
  void close(int fd);
  // Waits for the answer. False and errno if that is an error, or the device is gone.
  bool ask(int fd, Request& request, Answer& answer, std::initializer_list<int> descriptors = {});
  void ring(int fd);

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  Shared page_;
  uint32_t number_ = 0;
};

}  // namespace fabric
