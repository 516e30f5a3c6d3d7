// Forces every queue pair of another process into the error state, as a faulty device or cable would.
//
//   break_qps PID
//
// It takes a copy of each descriptor that the process has of an RDMA device (pidfd_getfd), and asks the kernel by it to modify the
// queue pairs: their handles are small numbers, all of which are tried. Prints how many there were. Needs root.

#include <dirent.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr uint32_t kStateMask = 1 << 0;  // IBV_QP_STATE
constexpr uint32_t kErrorState = 6;      // IBV_QPS_ERR
constexpr uint32_t kMostHandles = 4096;
constexpr uint32_t kDrivers = 32;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "break_qps: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// The process's descriptors of RDMA devices, by number.
std::vector<int> devices_of(int pid) {
  const auto folder = "/proc/" + std::to_string(pid) + "/fd";
  auto* open = opendir(folder.c_str());
  if (!open) die(folder.c_str());
  std::vector<int> found;
  while (const auto* entry = readdir(open)) {
    char target[64] = {};
    if (readlink((folder + "/" + entry->d_name).c_str(), target, sizeof target - 1) < 0) continue;
    if (std::strncmp(target, "/dev/infiniband/uverbs", 22) == 0) found.push_back(std::atoi(entry->d_name));
  }
  closedir(open);
  return found;
}

// The command "modify queue pair", which is one of the older kind, by way of the ioctl for those. EINVAL: no such handle.
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
  for (uint32_t driver = 0; driver < kDrivers && failed == 0; ++driver)
    for (uint32_t handle = 0; handle < kMostHandles; ++handle) failed += fail_queue_pair(device, driver, handle);
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  const int pid = argc == 2 ? std::atoi(argv[1]) : 0;
  if (pid <= 0) return std::fprintf(stderr, "usage: break_qps PID\n"), 2;
  const auto process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) die("pidfd_open");
  int failed = 0;
  for (const int number : devices_of(pid)) {
    const auto device = static_cast<int>(syscall(SYS_pidfd_getfd, process, number, 0));
    if (device < 0) die("pidfd_getfd");
    failed += fail_queue_pairs(device);
    close(device);
  }
  std::printf("%d queue pairs failed\n", failed);
}
