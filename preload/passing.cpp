#include "preload/passing.hpp"

#include <cstring>

#include "preload/program_vector.hpp"
#include "preload/shell.hpp"

namespace rsock::preload {

void look_for_passed_descriptors(const msghdr* message) {
  if (!readable(message, sizeof *message) || message->msg_controllen < sizeof(cmsghdr)) return;
  if (!readable(message->msg_control, message->msg_controllen)) return;
  msghdr own = *message;
  for (cmsghdr* part = CMSG_FIRSTHDR(&own); part; part = CMSG_NXTHDR(&own, part)) {
    const auto* const end = static_cast<const unsigned char*>(message->msg_control) + message->msg_controllen;
    const unsigned char* at = CMSG_DATA(part);
    if (part->cmsg_len < CMSG_LEN(0) || part->cmsg_len - CMSG_LEN(0) > static_cast<size_t>(end - at)) return;
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t left = part->cmsg_len - CMSG_LEN(0); left >= sizeof(int);
         left -= sizeof(int), at += sizeof(int)) {
      int fd;
      std::memcpy(&fd, at, sizeof fd);
      to_tcp(fd, Reason::shared);
    }
  }
}

void look_for_passed_descriptors(const mmsghdr* messages, unsigned count) {
  count = std::min<unsigned>(count, kMostParts);
  for (unsigned i = 0; i < count && readable(messages + i, sizeof *messages); ++i)
    look_for_passed_descriptors(&messages[i].msg_hdr);
}

}  // namespace rsock::preload
