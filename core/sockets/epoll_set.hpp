#pragma once
// The application's epoll instance, as far as flows are in it. Descriptors that are no flows live in the kernel's set untouched. A
// flow lives there as well while the kernel's readiness is the truth for it; its kernel entry then bears a mark of ours instead of
// the application's data. While it is in a lane it is out of the kernel's set, and its readiness is kept here with the kernel's
// rules: a queue of watches that may be ready, checked again when they are reported; level-triggered ones stay queued.
//
// Members of our own in the kernel's set: a bell, and the engine's completion sources once a flow of the set is in a lane.

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "core/sockets/wait.hpp"

namespace rsock::sockets {

class EpollSet {
 public:
  // nullptr if `fd`, the application's, is no epoll instance, or a descriptor is lacking.
  static std::shared_ptr<EpollSet> make(int fd);
  ~EpollSet();

  Status control(int operation, int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event* event);
  bool watches(int fd) const { return watches_.contains(fd); }
  Answer<int> wait(Section& section, epoll_event* events, int capacity, std::optional<Time> deadline,
                   const sigset_t* mask);
  // Somebody waits for the set itself from outside: it has to look readable when a flow is ready.
  void expose();

  static void hand_over(engine::Flow& flow);
  static void forget_flow(engine::Flow& flow);
  // In a child of fork: the sets are the parent's.
  static void forget_all();

 private:
  struct Watch final : engine::Observer {
    explicit Watch(EpollSet& s) : set(s) {}
    void flow_changed(engine::Flow&, uint32_t what) override { set.changed(*this, what); }
    EpollSet& set;
    int fd = -1;
    std::shared_ptr<engine::Flow> flow;
    epoll_event wanted{};
    uint64_t mark = 0;
    bool in_kernel = false;
    bool fired = false;   // one-shot, and reported
    bool queued = false;
  };

  EpollSet(UniqueFd kernel_set, Bell::Loan bell, uint64_t mark);
  Status add(int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event& event);
  Watch& new_watch(int fd);
  Status enter_kernel(Watch& watch, int operation);
  void leave_kernel(Watch& watch);
  void changed(Watch& watch, uint32_t what);
  void queue(Watch& watch);
  void remove(int fd);
  uint32_t ready_events(const Watch& watch) const;
  int collect(epoll_event* events, int capacity);
  // Turns what the kernel reported into what the application is to see, in place; how many are left.
  int translate(epoll_event* events, int count);
  bool in_lanes() const { return out_of_kernel_ > 0; }
  void add_sources();
  Result<int> look(epoll_event* events, int capacity);

  UniqueFd kernel_set_;  // a duplicate of the application's descriptor
  Bell::Loan bell_;
  const uint64_t mark_;  // random: tells our kernel entries from the application's data
  using Watches = std::map<int, std::unique_ptr<Watch>>;
  Watches watches_;
  Watches::node_type spare_;  // the last one that went: programs remove and add a descriptor all the time
  std::map<uint64_t, Watch*> marked_;  // those in the kernel's set
  uint64_t next_mark_;
  std::deque<Watch*> ready_;
  size_t out_of_kernel_ = 0;
  size_t sources_ = 0;
  int sleepers_ = 0;
  bool exposed_ = false;
  Looks looks_;  // at the kernel's set
};

}  // namespace rsock::sockets
