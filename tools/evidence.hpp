#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>

namespace rsock::tools {

/// What is known of where the flows of a program are: from its processes, as `rsock list` asks them, and from their
/// statistics once they have ended.
class Evidence {
 public:
  /// Of the processes that `ancestor` has started, and theirs. Statistics are written where RSOCK_STATS_FILE says;
  /// where it says nothing, into a file of its own, which goes with it. `lane`: rdma, shm, or auto for any of the two.
  Evidence(std::string lane, pid_t ancestor);
  ~Evidence();
  Evidence(const Evidence&) = delete;
  Evidence& operator=(const Evidence&) = delete;

  /// Statistics of this process count, wherever they are written.
  void count(pid_t process) { processes_.insert(process); }

  /// Asks the processes. True if a flow is in the lane, now or when asked before.
  bool look();
  /// The same of processes that have ended.
  bool read_statistics();

  /// What the flows had when last seen, in lines.
  std::string tell() const;

 private:
  bool is_lane(const std::string& name) const { return name == lane_ || (lane_ == "auto" && name != "tcp"); }
  bool is_descendant(pid_t process) const;

  std::string lane_;
  pid_t ancestor_;
  std::filesystem::path own_folder_, statistics_;
  std::uintmax_t begin_ = 0;  // of what is written from now on
  std::set<pid_t> processes_;
  bool got_there_ = false;
  std::map<std::string, std::uint64_t> stay_;  // flows on TCP, by reason
  std::map<std::string, std::uint64_t> elsewhere_;
};

/// The parent of a process; 0 if there is no such process.
pid_t parent_of(pid_t process);

}  // namespace rsock::tools
