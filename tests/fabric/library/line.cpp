#include "tests/fabric/library/line.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace fabric {
namespace {

constexpr size_t kMostDescriptors = 4;

bool name_of_device(sockaddr_un& name) {
  Dl_info here{};
  if (!dladdr(reinterpret_cast<const void*>(&name_of_device), &here) || !here.dli_fname) return false;
  const char* end = std::strrchr(here.dli_fname, '/');
  const size_t folder = end ? static_cast<size_t>(end - here.dli_fname) + 1 : 0;
  constexpr char kName[] = "device";
  if (folder + sizeof kName > sizeof name.sun_path) return false;
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, here.dli_fname, folder);
  std::memcpy(name.sun_path + folder, kName, sizeof kName);
  return true;
}

// All of it, or nothing.
bool send(int fd, const void* bytes, size_t size, std::initializer_list<int> descriptors) {
  iovec piece{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))]{};
  if (descriptors.size() > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    auto* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), descriptors.begin(), descriptors.size() * sizeof(int));
  }
  while (call(SYS_sendmsg, fd, &message, MSG_NOSIGNAL) < 0) {
    if (errno != EAGAIN && errno != EINTR) return false;
    pollfd room{fd, POLLOUT, 0};
    call(SYS_poll, &room, 1, 1000);
  }
  return true;
}

bool is_gone(int fd) {
  pollfd end{fd, 0, 0};
  return call(SYS_poll, &end, 1, 0) > 0;
}

}  // namespace

bool Shared::make(size_t size) {
  fd_ = static_cast<int>(call(SYS_memfd_create, "fabric", MFD_CLOEXEC));
  if (fd_ < 0) return false;
  const long at = call(SYS_ftruncate, fd_, size) < 0
                      ? -1
                      : call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (at == -1) {
    const int error = errno;
    let_go();
    errno = error;
    return false;
  }
  at_ = reinterpret_cast<void*>(at);
  size_ = size;
  call(SYS_madvise, at_, size_, MADV_DONTFORK);
  return true;
}

void Shared::let_go() {
  if (fd_ >= 0) call(SYS_close, fd_);
  fd_ = -1;
}

void Shared::end() {
  let_go();
  if (at_) call(SYS_munmap, at_, size_);
  at_ = nullptr;
}

bool Line::open(int& fd, Verb first, std::initializer_list<int> descriptors) {
  sockaddr_un name{};
  fd = -1;
  if (!name_of_device(name)) return errno = ENODEV, false;
  if (!page_.make(sizeof(AnswerPage))) return false;
  int error = ENODEV;
  fd = static_cast<int>(call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (fd < 0) {
    error = errno;
  } else if (call(SYS_connect, fd, &name, sizeof name) == 0) {
    Request request;
    request.verb = first;
    Answer answer;
    bool good = false;
    // Those of the caller come behind the page.
    const auto* more = descriptors.begin();
    if (descriptors.size() == 0)
      good = ask(fd, request, answer, {page_.fd()});
    else if (descriptors.size() == 1)
      good = ask(fd, request, answer, {page_.fd(), more[0]});
    else
      good = ask(fd, request, answer, {page_.fd(), more[0], more[1]});
    page_.let_go();
    if (good) return true;
    error = errno;
  } else if (errno == EACCES || errno == EPERM) {
    error = errno;
  }
  if (fd >= 0) call(SYS_close, fd);
  fd = -1;
  page_.end();
  errno = error;
  return false;
}

void Line::close(int fd) {
  call(SYS_close, fd);
  page_.end();
}

bool Line::ask(int fd, Request& request, Answer& answer, std::initializer_list<int> descriptors) {
  const Locked locked(mutex_);
  auto& page = *page_.as<AnswerPage>();
  const uint32_t last = number_;
  request.number = ++number_;
  if (!send(fd, &request, sizeof request, descriptors)) return errno = ENODEV, false;
  const timespec second{1, 0};
  while (page.number.load(std::memory_order_acquire) != request.number) {
    if (call(SYS_futex, &page.number, FUTEX_WAIT, last, &second) < 0 && errno == ETIMEDOUT && is_gone(fd))
      return errno = ENODEV, false;
  }
  answer = page.answer;
  if (answer.error != 0) errno = answer.error;
  return answer.error == 0;
}

void Line::ring(int fd) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (page_.as<AnswerPage>()->rung.exchange(1) != 0) return;
  const char bell = 0;
  const int error = errno;
  (void)send(fd, &bell, sizeof bell, {});
  errno = error;
}

}  // namespace fabric
