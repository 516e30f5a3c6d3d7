#include "preload/passing.hpp"

#include "preload/program_vector.hpp"
#include "preload/shell.hpp"

namespace rsock::preload {

namespace {

// The control data is the program's: of what cannot be read, the kernel will say so.
template <class Do>
void for_each_descriptor(const msghdr* message, Do what) {
  msghdr own;
  if (!get(own, message)) return;
  const auto* const control = static_cast<const unsigned char*>(own.msg_control);
  for (size_t at = 0, next; at <= own.msg_controllen && own.msg_controllen - at >= sizeof(cmsghdr); at = next) {
    cmsghdr part;
    if (!get(part, control + at) || part.cmsg_len < CMSG_LEN(0) || part.cmsg_len > own.msg_controllen - at) return;
    next = at + CMSG_ALIGN(part.cmsg_len);
    if (part.cmsg_level != SOL_SOCKET || part.cmsg_type != SCM_RIGHTS) continue;
    for (size_t each = CMSG_LEN(0); each + sizeof(int) <= part.cmsg_len; each += sizeof(int)) {
      int fd;
      if (!get(fd, control + at + each)) return;
      what(fd);
    }
  }
}

}  // namespace

void look_for_passed_descriptors(const msghdr* message) {
  for_each_descriptor(message, [](int fd) { to_tcp(fd, Reason::shared); });
}

void look_for_passed_descriptors(const mmsghdr* messages, unsigned count) {
  count = std::min<unsigned>(count, kMostParts);
  for (unsigned i = 0; i < count && readable(messages + i, sizeof *messages); ++i)
    look_for_passed_descriptors(&messages[i].msg_hdr);
}

void adopt_if_listener(int fd) {
  int is_listener = 0;
  socklen_t size = sizeof is_listener;
  if (!sys::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, size) || !is_listener) return;
  note(fd);
  sockets::listening(fd);
}

ssize_t adopt_received(ssize_t got, const msghdr* message) {
  if (sockets::idle() || sockets::in_borrowed_memory()) return got;
  const Uncancellable here;
  const int before = errno;
  for_each_descriptor(message, [](int fd) {
    adopt_if_listener(fd);
    // What is received next and finds no number is lost.
    if (own::any() && sys::leaves_few(fd)) (void)made_room();
  });
  errno = before;
  return got;
}

void look_for_received_descriptors(const mmsghdr* messages, int count) {
  for (int i = 0; i < count; ++i)
    if (has_control(&messages[i].msg_hdr)) adopt_received(count, &messages[i].msg_hdr);
}

}  // namespace rsock::preload
