// Breaks every link of another process: forces its queue pairs into the error state, as a faulty device or cable would,
// and shuts the unix sockets of its links over shared memory, as if either end had gone.
//
//   break_links PID
//
// It takes a copy of each descriptor that the process has of an RDMA device (pidfd_getfd), and asks the kernel by it to
// modify the queue pairs: their handles are small numbers, all of which are tried; and a copy of each connected packet
// socket, which a program that only speaks TCP has none of. Prints how many links there were. Needs the right to trace
// the process.

#include <dirent.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr uint32_t kStateMask = 1 << 0;  // IBV_QP_STATE
constexpr uint32_t kErrorState = 6;      // IBV_QPS_ERR
constexpr uint32_t kMostHandles = 1024;
constexpr uint32_t kDrivers = 32;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "break_links: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// The process's descriptors of what `begins` so, by number.
std::vector<int> descriptors_of(int pid, std::string_view begins) {
  const auto folder = "/proc/" + std::to_string(pid) + "/fd";
  auto* open = opendir(folder.c_str());
  if (!open) die(folder.c_str());
  std::vector<int> found;
  while (const auto* entry = readdir(open)) {
    char target[64] = {};
    if (readlink((folder + "/" + entry->d_name).c_str(), target, sizeof target - 1) < 0) continue;
    if (std::string_view(target).starts_with(begins)) found.push_back(std::atoi(entry->d_name));
  }
  closedir(open);
  return found;
}

// The command "modify queue pair", which is one of the older kind, by way of the ioctl for those. EINVAL: no such
// handle.
bool fail_queue_pair(int device, uint32_t driver, uint32_t handle) {
  ib_uverbs_modify_qp command{};
  command.qp_handle = handle;
  command.attr_mask = kStateMask;
  command.qp_state = kErrorState;
  constexpr size_t kAttributes = 2;
  alignas(ib_uverbs_ioctl_hdr) std::byte request[sizeof(ib_uverbs_ioctl_hdr) + kAttributes * sizeof(ib_uverbs_attr)]{};
  auto& header = *reinterpret_cast<ib_uverbs_ioctl_hdr*>(request);
  header.length = sizeof request;
  header.object_id = UVERBS_OBJECT_DEVICE;
  header.method_id = UVERBS_METHOD_INVOKE_WRITE;
  header.num_attrs = kAttributes;
  header.driver_id = driver;
  auto& in = header.attrs[0];
  in.attr_id = UVERBS_ATTR_CORE_IN;
  in.len = sizeof command;
  in.flags = UVERBS_ATTR_F_MANDATORY;
  in.data = reinterpret_cast<uintptr_t>(&command);
  auto& which = header.attrs[1];
  which.attr_id = UVERBS_ATTR_WRITE_CMD;
  which.len = sizeof(uint64_t);
  which.flags = UVERBS_ATTR_F_MANDATORY;
  which.data = IB_USER_VERBS_CMD_MODIFY_QP;
  return ioctl(device, RDMA_VERBS_IOCTL, request) == 0;
}

int fail_queue_pairs(int device) {
  int failed = 0;
  const auto try_all = [&](uint32_t driver) {
    for (uint32_t handle = 0; handle < kMostHandles; ++handle) failed += fail_queue_pair(device, driver, handle);
  };
  try_all(RDMA_DRIVER_RXE);  // first the one that is likely: an emulated processor takes seconds for all
  for (uint32_t driver = 0; driver < kDrivers && failed == 0; ++driver) try_all(driver);
  return failed;
}

int option(int socket, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(socket, SOL_SOCKET, name, &value, &size) == 0 ? value : 0;
}

// By its name, which the end that was connected to has: of a point, not of a control socket.
int fail_link_socket(int socket) {
  if (option(socket, SO_DOMAIN) != AF_UNIX || option(socket, SO_TYPE) != SOCK_STREAM || option(socket, SO_ACCEPTCONN))
    return 0;
  const auto is_ours = [&](auto name_of) {
    constexpr std::string_view kBegin("\0rsock-", 7);
    sockaddr_un name{};
    socklen_t size = sizeof name;
    return name_of(socket, reinterpret_cast<sockaddr*>(&name), &size) == 0 &&
           std::string_view(name.sun_path, kBegin.size()) == kBegin;
  };
  return (is_ours(getsockname) || is_ours(getpeername)) && shutdown(socket, SHUT_RDWR) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int pid = argc == 2 ? std::atoi(argv[1]) : 0;
  if (pid <= 0) return std::fprintf(stderr, "usage: break_links PID\n"), 2;
  const auto process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) die("pidfd_open");
  int failed = 0;
  const auto with_each = [&](std::string_view begins, auto fail) {
    for (const int number : descriptors_of(pid, begins)) {
      const auto copy = static_cast<int>(syscall(SYS_pidfd_getfd, process, number, 0));
      if (copy < 0 && errno == EBADF) continue;  // closed meanwhile
      if (copy < 0) die("pidfd_getfd");
      failed += fail(copy);
      close(copy);
    }
  };
  with_each("/dev/infiniband/uverbs", fail_queue_pairs);
  with_each("socket:", fail_link_socket);
  std::printf("%d links failed\n", failed);
}
