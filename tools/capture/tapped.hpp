#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "core/base/sealed_memory.hpp"
#include "core/wire/capture.hpp"
#include "tools/operate.hpp"

namespace rsock::tools {

/// A process that hands over what goes through its lanes, for as long as this object is there. It may be
/// anybody's, and what it hands over anything.
class Tapped {
 public:
  /// `memory`: of a size that fits.
  Tapped(Process process, SealedMemory memory);

  enum class Drained { empty, more, fault };
  /// Calls take(record, bytes) with each record that is there, until those were `most` bytes.
  template <class Take>
  Drained drain(std::size_t most, Take take) {
    wire::CaptureRecord record;
    std::span<const std::byte> bytes;
    for (std::size_t done = 0, held = 0; done < most; done += record.length) {
      const auto next = reader_.take(record, bytes);
      if (next == wire::CaptureReader::Next::fault) return Drained::fault;
      if (next == wire::CaptureReader::Next::nothing) return reader_.done(), Drained::empty;
      copy_.assign(bytes.begin(), bytes.end());  // which nobody changes
      take(record, std::span<const std::byte>(copy_));
      if (held += record.length; held >= kGiveBack) reader_.done(), held = 0;
    }
    return reader_.done(), Drained::more;
  }
  bool gone() const { return process_.gone(); }
  const Process& process() const { return process_; }
  std::uint64_t lost_records() const { return reader_.lost_records(); }
  std::uint64_t lost_bytes() const { return reader_.lost_bytes(); }
  std::size_t size() const { return memory_.size(); }

  std::optional<std::uint32_t> interface;  ///< in the file
  std::uint64_t packets = 0;

 private:
  static constexpr std::size_t kGiveBack = 1 << 18;  // bytes after which the process has their room again
  Process process_;
  SealedMemory memory_;
  wire::CaptureReader reader_;
  std::vector<std::byte> copy_;
};

/// Finds processes and begins to capture them, once and then again and again: also those that begin later.
class Finder {
 public:
  /// `buffer`: MiB for each process.
  Finder(const OperateArguments& whose, std::uint64_t buffer);
  ~Finder();
  Finder(const Finder&) = delete;
  Finder& operator=(const Finder&) = delete;

  /// False if there is none.
  bool look();
  /// From now on a thread looks each second. Signals are for the thread that calls this.
  void go_on();
  /// Those that were found since.
  void take_new(std::list<Tapped>& processes);
  /// It has ended; another may have its id.
  void forget(pid_t process);

 private:
  bool knows(pid_t process);
  void begin(Process process);

  OperateArguments whose_;
  const std::uint64_t ring_;
  std::mutex lock_;
  std::set<pid_t> known_, refused_;
  std::list<Tapped> new_;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

}  // namespace rsock::tools
