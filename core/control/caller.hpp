#pragma once
// The other side of a control socket (core/engine/service/control.hpp): how an operator's command reaches the processes
// in which librsock is active, and how a process that took a descriptor of another one's asks it to let go of the flow.
//
// Anybody may listen at such a name, and say nothing. So all are called and asked at once, with one time limit for all.
// The kernel's word on the listener tells whose answer counts, and no user can keep another one's processes from being
// called: so many names are called for each process and for each user.
//
// Any thread, without the engine's lock. Blocks for as long as it is told.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/unique_fd.hpp"
#include "core/wire/control.hpp"

namespace rsock::control {

class Caller {
 public:
  // With every process of this network namespace that may be commanded: of this user, or of root, by what the kernel
  // says of whoever listens; for root of any user. `patience` with all of them. `crowded`: the inodes of the sockets
  // where so many callers waited before us for so long that nobody may be told of.
  static std::vector<Caller> call_all(Duration patience, std::vector<uint64_t>* crowded = nullptr);
  // A process that lets nobody in: it is never heard.
  static Caller of_silent(pid_t process);
  struct Patience {
    Duration with_all;
    Duration with_likely;  // where the kernel knows of a thread of ours: it is busy, or stopped
  };
  // The same question to each. Nothing from one that has not answered in time, or not in order. Once that is so of one
  // it is told what is asked still, and not waited for.
  static std::vector<std::optional<wire::ControlAnswer>> ask_all(std::span<Caller* const> callers,
                                                                 const wire::ControlRequest& request,
                                                                 Patience patience);
  // The same for a page, where each has a request of its own.
  static std::vector<std::optional<wire::ControlPage>> ask_pages(std::span<Caller* const> callers,
                                                                 std::span<const wire::ControlRequest> requests,
                                                                 Patience patience);

  // What is answered with a descriptor of sealed memory, or without, where that is refused. Nothing if it has
  // not answered in time, or not in order.
  struct Handed {
    wire::ControlAnswer answer;
    UniqueFd memory;
  };
  std::optional<Handed> ask_for_memory(const wire::ControlRequest& request, Duration patience);

  // 0 if it is in another namespace of processes.
  pid_t process() const { return process_; }
  bool hung_up() const;
  // Whether it has a thread of ours, by its name. False for one of another namespace.
  bool likely() const;

 private:
  enum class State { heard, silent, false_one };
  Caller(UniqueFd fd, pid_t process) : fd_(std::move(fd)), process_(process) {}
  template <class Answer>
  using Decode = std::optional<Answer> (*)(std::span<const uint8_t>);
  template <class Answer>
  static std::vector<std::optional<Answer>> ask(std::span<Caller* const> callers,
                                                std::span<const wire::ControlRequest> requests, Patience patience,
                                                Decode<Answer> decode);
  template <class Answer>
  std::optional<Answer> take(Decode<Answer> decode);

  UniqueFd fd_;
  pid_t process_;
  State state_ = State::heard;
};

}  // namespace rsock::control
