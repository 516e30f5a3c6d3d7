#pragma once
// The application's epoll instance, as far as flows are in it. Descriptors that are no flows live in the kernel's set
// untouched. A flow lives there as well while the kernel's readiness is the truth for it; its kernel entry then bears a
// mark of ours instead of the application's data. While it is in a lane it is out of the kernel's set, and its
// readiness is kept here with the kernel's rules: a queue of watches that may be ready, checked again when they are
// reported; level-triggered ones stay queued.
//
// Members of our own in the kernel's set: a bell, and the engine's completion sources once a thread slept in it while a
// flow of the set was in a lane.
//
// Unaware. A set is known here from its first flow on, which may come while threads sleep in it by libc's own call.
// Until such a thread comes back (see sockets::Unaware) the bell rings for it like for one of ours.
//
// Exposed. Somebody may wait for the set itself: by poll, by another set, through a copy of its descriptor. Then the
// bell rings while a flow is ready, so that the kernel's set looks readable. A set is taken for exposed until a thread
// sleeps in it itself and nothing else is known (Exposed::perhaps). The sources, which say nothing about the set, are
// then in it only while a thread sleeps. A set that contains another one with flows is known here, too (nest): who
// waits in it drives the engine for both.
//
// Borrowing. Where the program lacks descriptors, a set whose flows are all on TCP gives its own back, and goes by the
// program's number until there is room again (give_back, settle_in). No thread sleeps in it by the number that goes: a
// thread that does is woken first.
//
// Given up. A process that forks has its sets in common with its child, as the kernel has it, and the child knows
// neither marks nor lanes. So a set that a child uses becomes the kernel's alone (give_up): its flows go back to TCP
// for good, their kernel entries get the application's data back, and nothing of the library is left in it. What comes
// into it later is on TCP.

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "core/sockets/wait.hpp"

namespace rsock::sockets {

class EpollSet {
 public:
  // EINVAL, EBADF: `fd` is no epoll instance. Other errors: a descriptor or memory is lacking.
  static Result<std::shared_ptr<EpollSet>> make(int fd);
  ~EpollSet();

  // Of a flow, which the descriptor `fd` names.
  Status control(int operation, int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event* event);
  bool watches(int fd, const engine::Flow& flow) const { return watches_.contains({fd, &flow}); }
  // The kernel's set changed: it is looked at by the next wait.
  void look_soon() { looks_ = {}; }
  // So it did, by what is no flow.
  void others_changed() { looks_ = {}, has_others_ = true; }
  Answer<int> wait(Section& section, epoll_event* events, int capacity, std::optional<Time> deadline,
                   const sigset_t* mask);
  // What libc's own wait in this set brought, as the application is to see it, in place; how many events are left.
  int translate(epoll_event* events, int count);

  // ---- other processes
  // nullptr: it never was anybody else's.
  engine::Share* share() const { return share_; }
  void share_with_child(engine::Family& family);
  void give_up();
  static void give_up_all();
  bool given_up() const { return given_up_; }
  // Given up, and all of it is the kernel's by now.
  bool kernels() const { return given_up_ && watches_.empty(); }
  std::vector<std::shared_ptr<engine::Flow>> flows() const;
  // In the child of a maker that was killed: the kernel's entries get the application's data, as far as they have not.
  void mend(int set) const;
  // A child may have asked for a set.
  static void answer_family();

  // Somebody waits for the set itself from outside.
  void expose();
  // `inner` is, or was, a member of this set.
  void nest(const std::shared_ptr<EpollSet>& inner);
  bool in_lanes() const;
  // The bell says what is true now.
  void refresh();
  // The application's descriptors that name this set or contain it, as far as the kernel tells; for a set that was just
  // made.
  struct Relatives {
    std::vector<int> copies, outer;
  };
  Relatives find_relatives(int fd);
  // `fd` is a descriptor of the set.
  void named(int fd) { unaware_.push_back(&Unaware::sleeping_in(fd)); }

  static void hand_over(engine::Flow& flow);
  static void forget_flow(engine::Flow& flow);
  static void descriptor_closed(engine::Flow& flow, int fd);
  // In a child of fork: the sets are the parent's.
  static void forget_all();
  // The program lacks descriptors: those that the sets can do without now are given back.
  static void give_back_all();
  // They have them again. False if there are not enough.
  static bool settle_in_all();

 private:
  struct Watch final : engine::Observer {
    explicit Watch(EpollSet& s) : set(s) {}
    void flow_changed(engine::Flow&, uint32_t what) override { set.changed(*this, what); }
    void flow_shut(engine::Flow&) override { set.flow_shut(*this); }
    void flow_gone(engine::Flow&, bool disowned) override { set.flow_gone(*this, disowned); }
    void descriptor_gone(engine::Flow&, int closed) override { set.descriptor_gone(*this, closed); }
    // The number by which the kernel's set knows it.
    int kernel_fd() const { return own ? own.get() : fd; }
    EpollSet& set;
    int fd = -1;
    UniqueFd own;         // once the application closed `fd` but has other descriptors for the flow: the entry lives on
    bool orphan = false;  // the same
    std::shared_ptr<engine::Flow> flow;
    epoll_event wanted{};
    uint64_t mark = 0;
    uint32_t reported = 0;  // last, since it was added or modified
    bool in_kernel = false;
    bool fired = false;  // for the last time, unless it is armed again
    bool queued = false;
    bool between = false;
  };
  enum class Exposed { perhaps, no, yes };

  // Marks are the set's random number plus a small ordinal; the first ones are ours.
  static constexpr uint64_t kBellMark = 0, kSourceMark = 1, kFirstWatchMark = 2;
  static constexpr uint64_t kMarks = 1ull << 32;

  EpollSet(UniqueFd own_set, Bell::Loan bell, uint64_t mark, bool has_others);
  Status add(int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event& event);
  Watch& new_watch(int fd, const engine::Flow& flow);
  Status enter_kernel(Watch& watch, int operation);
  void leave_kernel(Watch& watch);
  void hand_over(Watch& watch);
  void advance_giving_up();
  void move(Watch& watch, bool to_kernel);
  static bool has_reported_all(const Watch& watch);
  void changed(Watch& watch, uint32_t what);
  void flow_shut(Watch& watch);
  void queue(Watch& watch);
  void look_between();
  void ring();
  bool unaware() const;
  void remove(Watch& watch);
  void flow_gone(Watch& watch, bool disowned);
  void descriptor_gone(Watch& watch, int closed);
  uint32_t ready_events(const Watch& watch) const;
  int collect(epoll_event* events, int capacity);
  bool add_sources();  // false if the kernel takes none: its sets are not nested any deeper
  void remove_sources();
  Result<int> look(epoll_event* events, int capacity);
  // What is ready at the same time is reported together. Whether the kernel's set is looked at, which takes a system
  // call:
  enum class Kernel { looked_at, beside_flows /* if there is a ready one, and somebody beside it */, left_alone };
  Result<int> gather(epoll_event* events, int capacity, Kernel kernel);
  void leave_rest();
  bool inner_ready() const;
  void refresh_inner();
  int kernel_set() const;
  void give_back();
  Status settle_in();
  Status watch_bell() const;
  void ring_bell() {
    if (bell_) bell_->ring();
  }
  void silence_bell() {
    if (bell_) bell_->silence();
  }

  UniqueFd own_set_;  // a duplicate of the application's descriptor; unset, like the bell, where the program lacks
                      // descriptors
  Bell::Loan bell_;
  bool to_give_back_ = false;  // both, as soon as nobody sleeps by them
  mutable int name_ = -1;      // one of the application's, when last asked
  const uint64_t mark_;        // random: tells our kernel entries from the application's data
  using Watches = std::map<std::pair<int, const engine::Flow*>, std::unique_ptr<Watch>>;
  Watches watches_;
  Watches::node_type spare_;           // the last one that went: programs remove and add a descriptor all the time
  std::map<uint64_t, Watch*> marked_;  // those in the kernel's set
  uint64_t next_mark_;
  std::deque<Watch*> ready_;
  std::vector<Watch*> between_;  // neither in a lane nor in the kernel's set: bytes are in front of the kernel's
  size_t out_of_kernel_ = 0;
  size_t sources_ = 0;
  unsigned source_changes_ = 0;
  int sleepers_ = 0;
  std::vector<const std::atomic<int>*> unaware_;
  Exposed exposed_ = Exposed::perhaps;
  engine::Share* share_ = nullptr;
  bool given_up_ = false, gone_ = false;  // gone: nothing of ours is in the kernel's set any more
  std::vector<std::weak_ptr<EpollSet>> inner_;
  bool has_others_;             // or had: members that are no flows
  bool lanes_had_all_ = false;  // places of the last report
  Looks looks_;                 // at the kernel's set
};

}  // namespace rsock::sockets
