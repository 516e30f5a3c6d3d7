#pragma once
// The control socket: where operators' commands reach this process (core/wire/control.hpp). A listening unix
// socket of packets, with a random name in the abstract space of the network namespace; the command finds it
// in /proc/net/unix. Only processes of the same user, or of root, are heard.
//
// On the service thread alone; nothing blocks. Callers are few, say little, and have a bounded time to say it
// in: one that is silent, garbles, or does not take its answer is dropped. Each has a tenth of a second for
// its first words, whoever comes after it. A caller that was given something to keep stays, and has said all
// that it will: with its next word or its end that is taken back. A child of fork closes the descriptors; its
// own engine opens its own.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/exposed.hpp"
#include "core/wire/control.hpp"

namespace rsock::engine {

class Control {
 public:
  // What it is answered.
  struct Reply {
    std::vector<uint8_t> packet;
    UniqueFd descriptor = {};         // goes with it
    std::shared_ptr<void> kept = {};  // for as long as the caller is there; nullptr: nothing
  };
  // `user`: who asks.
  using Obey = std::function<Reply(const wire::ControlRequest&, uid_t user)>;
  // Its descriptors become members of `epoll`, as `tag` plus a number below 2^32. nullptr if there is no descriptor to
  // be had.
  static std::unique_ptr<Control> open(int epoll, uint64_t tag, Obey obey);

  // The descriptor of that number is readable, or gone.
  void ready(uint64_t number);
  // When expire() is to be called next, if ever.
  std::optional<Time> deadline() const;
  void expire();
  std::vector<int> descriptors() const;

 private:
  struct Caller {
    ExposedFd fd;
    uid_t user = 0;
    Time came{}, until{};
  };
  // That was given something. It goes before the descriptor does.
  struct Keeper {
    ExposedFd fd;
    std::shared_ptr<void> kept;
  };

  Control(int epoll, uint64_t tag, Obey obey, ExposedFd listener);
  Status watch(ExposedFd& fd, uint64_t number);
  void answer_door();
  void shut_door(Time until);
  bool make_room();
  bool serve(uint64_t number, Caller& caller);

  const int epoll_;
  const uint64_t tag_;
  const Obey obey_;
  ExposedFd listener_;
  std::optional<Time> deaf_until_;  // nobody is let in
  std::map<uint64_t, Caller> callers_;
  std::map<uint64_t, Keeper> keepers_;
  uint64_t next_ = 1;
};

}  // namespace rsock::engine
