#pragma once
// One program: what it has open, and what its author knows of it. The knowledge serves two ends: that no call blocks
// for ever, and that every operation waits until what is under way has arrived, so that its result depends on the
// program alone.
//
// What was sent and not read stays below kUnread in each direction: how much a socket takes is the world's own affair.

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "numbers.hpp"
#include "trace.hpp"

namespace differential {

inline constexpr size_t kUnread = 6000;
inline constexpr int kNobody = 777;  // a number that no descriptor has

// One end of a connection.
struct End {
  int connection = 0, side = 0;
  End* peer = nullptr;
  int family = AF_INET;
  int descriptors = 0;  // that name it; at 0 it is closed
  bool nonblocking = false;
  bool timed = false;    // SO_RCVTIMEO
  bool lingers = false;  // SO_LINGER with 0
  bool hasty = false;    // its program does not wait until it is in its lane
  bool shut_in = false, shut_out = false;
  bool reset = false;   // by whatever; nothing is known any more of what can be read
  bool urgent = false;  // urgent data came: the same
  bool unsure = false;  // its peer went, and it is not known how
  size_t lowat = 1;
  size_t unread = 0;  // what the peer sent and nobody read
  uint64_t sent = 0;
  bool open() const { return descriptors > 0; }
  bool over() const { return reset || shut_in || peer->shut_out; }
  bool answers_by_reset() const { return !open() || (shut_in && shut_out); }  // what is sent to it
  // A blocking call for so many bytes returns.
  bool can_read(size_t wanted, bool whole) const;
};

struct Set {
  struct Member {
    uint32_t events = 0;
    int fd = -1;
    std::shared_ptr<End> end = {};
    std::shared_ptr<Set> set = {};  // a member of this one
    bool over = false;              // removed, changed, or fired for once
    // At some time its connection enters its lane, and then it may say once more what is ready. Its wait says in the
    // trace what that is.
    bool may_say_more() const;
  };
  std::map<uint32_t, Member> members;  // by the number that is their data; all that ever were
  std::vector<int> numbers;            // of descriptors that were added
  // So it is ready once more itself.
  bool may_say_more() const {
    return std::any_of(members.begin(), members.end(), [](const auto& member) { return member.second.may_say_more(); });
  }
};

inline bool Set::Member::may_say_more() const {
  if (set) return !over && set->may_say_more();
  return end && end->hasty && end->open() && (events & EPOLLET) && !over;
}

struct Handle {
  enum class Kind { socket, pipe_in, pipe_out, event, set, listener, file };
  Kind kind;
  int fd;
  std::shared_ptr<End> end = {};
  std::shared_ptr<Set> set = {};
};

class Program {
 public:
  // `spoiled`: it does not do what the seed says, in a rare operation; for the proof that differences are seen.
  Program(uint64_t seed, Trace& into, bool spoiled) : trace(into), seed_(seed), spoiled_(spoiled) {}
  ~Program();
  // Without the operations in `dropped`.
  void run(const std::vector<int>& dropped);

  Trace& trace;
  std::vector<Handle> handles;
  uint32_t next_data = 1;  // what epoll gives back
  int connections = 0;
  bool spoil(Numbers random) const { return spoiled_ && random.one_in(50); }

  Handle* any(Numbers& random, Handle::Kind kind);
  Handle* any(Numbers& random);
  Handle& add(Handle made);
  // One of an end's, or -1.
  int descriptor_of(const End& end) const;
  // A number of any kind of descriptor, or of none.
  int any_number(Numbers& random);

  // The connection between two ends, made and, where a lane is to carry it, in its lane.
  void connect(Numbers& random);
  void sent(End& from, size_t bytes);
  void read(End& at, size_t bytes) { at.unread -= bytes < at.unread ? bytes : at.unread; }
  void shut(End& end, bool in, bool out);
  // A descriptor of it was closed.
  void closed(const Handle& handle);
  void forget(int fd);
  // Whoever watches for edges on that connection sees what is there once more. A flow that goes back to TCP comes into
  // such sets anew, as on docs/compatibility.md; so that this says nothing, they are armed anew in all worlds.
  void arm_again(int connection);
  // Waits until what was done has arrived; says so in the trace if it does not.
  void settle();

 private:
  uint64_t seed_;
  bool spoiled_;
  std::vector<std::pair<std::shared_ptr<End>, std::shared_ptr<End>>> pairs_;
  bool unsettled_ = false;
  bool given_up_ = false;  // something did not arrive: the rest would say nothing
};

// How many connections of the process did.
extern int entered;
// Where a lane is to carry the bytes.
bool in_lane_world();
// So many bytes that follow each other in the stream of `from`.
std::string content(const End& from, size_t bytes);
void* bad_pointer();

// The operations, by what they are about. Each draws one call, makes it and adds it to the trace.
void operate_bytes_out(Program&, Numbers&);
void operate_bytes_in(Program&, Numbers&);
void operate_files(Program&, Numbers&);
void operate_urgent(Program&, Numbers&);
void operate_poll(Program&, Numbers&);
void operate_sets(Program&, Numbers&);
void operate_set_waits(Program&, Numbers&);
void operate_descriptors(Program&, Numbers&);
void operate_options(Program&, Numbers&);
void operate_neighbours(Program&, Numbers&);
void operate_processes(Program&, Numbers&);

}  // namespace differential
