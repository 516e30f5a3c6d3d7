#pragma once
// What the shell (preload/) asks of the core, call by call.
//
// The shell finds out with find(fd) whether a descriptor is of any concern; for all others libc is called at once. For
// those that are, the function here either serves the call or passes, and the shell then calls libc with the
// program's own arguments. All functions: any thread, errno untouched, no exception. Those that may block say so; a
// blocking one is a cancellation point where libc's is, holds no lock while it sleeps, and returns EINTR like libc's.

#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <optional>
#include <span>
#include <string_view>

#include "core/base/kernel.hpp"
#include "core/base/reason.hpp"
#include "core/base/result.hpp"

namespace rsock::config {
struct Config;
struct Parsed;
}  // namespace rsock::config

namespace rsock::sockets {

// Served: what to give to the program. Otherwise the shell calls libc.
template <class T>
class Answer {
 public:
  static Answer pass() { return {}; }
  Answer(Result<T> result) : result_(result), served_(true) {}
  Answer(T value) : result_(value), served_(true) {}
  Answer(Errno error) : result_(error), served_(true) {}
  bool served() const { return served_; }
  const Result<T>& result() const { return result_; }

 private:
  Answer() : result_(T{}) {}
  Result<T> result_;
  bool served_ = false;
};

// ---- life of the library -----------------------------------------------------------------------------------------

// What the shell does when an operator wants the rules read again; both on the service thread.
struct Again {
  config::Parsed (*read_rules)();
  void (*announce_listeners)();  // all that the program has, by listening()
};
// Once, before any other function: the rules in force, the program's name, and where statistics go ("" nowhere).
void start(const config::Config& config, std::string_view program, std::string_view statistics_file,
           const Again& again);
// Exit is under way (exit, _exit, return from main): delivers what flows in lanes still hold, within the bound
// drain_ms, and appends the statistics. Blocks at most that long. Does its work once; a child of vfork must not call it
// (see in_borrowed_memory).
void finish();
// The same, from the handler of a signal that ends the process, whatever it interrupted: the library's thread does it.
// The caller's thread does not come back to what it did; others may go on meanwhile.
void finish_in_handler();
// The same signal waits until its thread lets go of the lock: the process ends by it in time even if that never comes.
void end_in_time(int signal);
// The calling thread is about to end, with this status as of _exit: the last one of the program's ends the process.
// Takes no locks.
void thread_ends(int status);
// This is a child of vfork (or a clone that shares memory) running in the parent's memory: nothing may be changed here.
bool in_borrowed_memory();

void before_fork();
void after_fork_in_parent();
void after_fork_in_child();
// The flows of this process go back to TCP, and so do those of its parent that the new program is meant to have. Blocks
// for a bounded time.
void before_exec();
// The program goes on after all.
void exec_failed();
// All flows of this process go back to TCP, since it will end unseen. Blocks for a bounded time.
void before_daemon();
// In the child: the process that forked it has ended.
void became_daemon();
// A ring of io_uring is about to be made, by which the program may use sockets unseen. False: the options say that
// there is to be none. True: all flows have gone back to TCP, and those that come stay there. Blocks for a bounded
// time.
bool before_ring();

// While one lives, no thread of the library opens or closes descriptors of its own: what own::next() tells holds.
class Still {
 public:
  Still();
  ~Still();
  Still(const Still&) = delete;
  Still& operator=(const Still&) = delete;
};
// Whether the program has but this thread. Then its descriptors are nobody else's, whatever our own thread makes the
// kernel think.
bool only_thread();
// This thread is about to have descriptors of its own (unshare(2)): one number may name two things from now on. All
// flows go back to TCP, and nothing is selected any more. Blocks for a bounded time.
void before_unshare();
// A filter of system calls (seccomp(2)) is about to come into force, and nobody knows what it allows: all flows go back
// to TCP, nothing is selected any more, the library's thread ends, and the statistics, which end here, are written.
// Blocks for a bounded time.
void before_filter();

// ---- which descriptors concern us ----------------------------------------------------------------------------------

class Entry;
inline constexpr int kTableSize = 1 << 20;
// An atomic pointer whose constructor is trivial: the table is all zeros, and costs no page until it is used.
class TableSlot {
 public:
  Entry* load(std::memory_order order) const { return __atomic_load_n(&entry_, static_cast<int>(order)); }
  void store(Entry* entry, std::memory_order order) { __atomic_store_n(&entry_, entry, static_cast<int>(order)); }

 private:
  Entry* entry_;
};
extern TableSlot table[kTableSize];
// How many descriptors concern us now; while it is 0 there is nothing to look for.
extern std::atomic<int> concerned;

inline Entry* find(int fd) {
  if (static_cast<unsigned>(fd) >= static_cast<unsigned>(kTableSize)) return nullptr;
  return table[fd].load(std::memory_order_acquire);
}
// True when no rule selects anything: the shell need not announce sockets, listeners or connections.
bool idle();
// A call of the program's found no free descriptor: what the library has where the program's are is given back, and the
// flows go to TCP for a while. True if the call is to be repeated. Blocks for a bounded time.
bool make_room();
// The same before one does, since few are left: not all calls that need some are ours to repeat. Does not wait for it.
void make_room_soon();

// A thread that goes to sleep in an epoll set that is of no concern says so, looks once more whether that is still
// true, and looks again when it has slept: the set's first flow may come meanwhile, and then the bell of the set has to
// wake it. Without a lock, and by a handful of instructions, since every wait of a program pays for it. A child of fork
// may inherit the count of a thread that it does not have: at most a bell rings in vain.
class Unaware {
 public:
  explicit Unaware(int set) : count_(sleeping_in(set)) { count_.fetch_add(1); }
  ~Unaware() { count_.fetch_sub(1); }
  Unaware(const Unaware&) = delete;
  Unaware& operator=(const Unaware&) = delete;
  // Numbers that are too high to be of concern share a count with others.
  static std::atomic<int>& sleeping_in(int set) { return counts[static_cast<unsigned>(set) % kTableSize]; }

 private:
  static std::atomic<int> counts[kTableSize];
  std::atomic<int>& count_;
};

// ---- descriptors come and go: announced after the kernel did it, except where noted
// ----------------------------------

void socket_made(int fd, int domain, int type);
// Also where it came from elsewhere: from another process, or the program before this one.
void listening(int fd);
// Whether listening() was ever said of this number. Without a lock.
inline constexpr int kMetBits = 64;
extern constinit std::atomic<uint64_t> met_listeners[kTableSize / kMetBits];
constexpr uint64_t met_bit(int fd) { return uint64_t{1} << fd % kMetBits; }
inline bool met(int fd) {
  if (static_cast<unsigned>(fd) >= static_cast<unsigned>(kTableSize)) return true;
  return met_listeners[fd / kMetBits].load(std::memory_order_relaxed) & met_bit(fd);
}
// `flags` as of accept4.
void accepted(int listener, int fd, int flags);
// Before connect(2), then after it with its errno (0, EINPROGRESS, …). `connecting` false: the connection is not
// selected, `connected` need not be called.
bool connecting(int fd, const sockaddr* address, socklen_t size);
void connected(int fd, int error);
// `to` now names what `from` names; whatever `to` named before was closed by before_close(to).
void duplicated(int from, int to);
// Its close-on-exec was taken off: it is meant for the next program.
void meant_for_next_program(int fd);
// pidfd_getfd(2) brought `fd`, which is `theirs` in some process. If that has it in a lane, it goes back to TCP for
// good (blocks for a bounded time).
void taken(int theirs, int fd);
// BEFORE the kernel closes it.
void before_close(int fd);

// ---- bytes; may block -------------------------------------------------------------------------------------------

// The program's buffers, as far as they may be touched. `cut`: the program named more, and what comes next may not be:
// a transfer that would get there gives EFAULT, but not before it would get there, as the kernel does.
struct Buffers {
  std::span<const iovec> parts;
  bool cut = false;
};

// What a read would find now, where it is not libc's.
size_t readable_bytes(int fd);
// recv and its kin. `unread`: what TCP_CM_INQ says after it, if the socket was told to say so (TCP_INQ).
Answer<size_t> receive(int fd, Buffers to, int flags, std::optional<int>* unread = nullptr);
// send and its kin. EPIPE comes back as an error: the shell raises SIGPIPE unless MSG_NOSIGNAL.
Answer<size_t> transmit(int fd, Buffers from, int flags, const msghdr* message = nullptr);
// sendfile(2): reads `in` itself.
Answer<size_t> transmit_file(int fd, int in, off64_t* offset, size_t count);
// splice(2) from a flow into a pipe, and from a pipe into a flow, both without offsets. They wait in libc's calls, too.
struct Pipes {
  ssize_t (*splice)(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags);
  ssize_t (*tee)(int in, int out, size_t size, unsigned flags);
  int (*poll)(pollfd* list, nfds_t count, int timeout);
};
Answer<size_t> splice_in(int fd, int pipe, size_t size, unsigned flags, const Pipes& libc);
Answer<size_t> splice_out(int pipe, int fd, size_t size, unsigned flags, const Pipes& libc);
// libc moved bytes on a descriptor of ours, after a pass: for the statistics and the count of bytes on TCP.
void passed_in(int fd, size_t bytes);
void passed_out(int fd, size_t bytes);

// ---- everything else on a flow --------------------------------------------------------------------------------------

Answer<int> shutdown(int fd, int how);
Answer<int> getsockopt(int fd, int level, int name, void* value, socklen_t* size);
// Of what may only be set while no flow is at work.
Answer<int> setsockopt(int fd, int level, int name, const void* value, socklen_t size);
// Looks at other options that change what we do, after they were set.
void option_set(int fd, int level, int name, const void* value, socklen_t size);
// What recv would find. Passes where the kernel has all of it, and may give it out as it likes.
struct Unread {
  size_t bytes;
  bool ended;  // the peer's end of the stream is here
};
Answer<Unread> unread(int fd);
Answer<int> ioctl(int fd, unsigned long request, void* argument);
// The status flags of the descriptor were changed by fcntl(F_SETFL) or ioctl(FIONBIO).
void nonblocking_set(int fd, bool nonblocking);
// The program is about to make a call that no lane serves: the flow goes back to TCP (blocks for a bounded time) and
// stays there; the shell then calls libc.
void unserved(int fd, Reason reason = Reason::unserved_call);
// The same for a call that moves no bytes, but makes the kernel do what only it can.
void unhonoured(int fd);
// Whether a connection in a lane is one no more: both its directions have ended, or it was reset.
bool disconnected(int fd);
// The program is about to ask the kernel for something that depends on whether the connection has ended: if it has in
// its lane, the kernel is made to know (blocks for a bounded time).
void end_known(int fd);

// ---- waiting; may block ---------------------------------------------------------------------------------------------

// `event`: may be read, unless the operation is EPOLL_CTL_DEL.
Answer<int> epoll_ctl(int set, int operation, int fd, const epoll_event* event);
// nullptr timeout: for ever. `mask`: as of epoll_pwait; nullptr none.
Answer<int> epoll_wait(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask);
// libc's own wait in a set that was of no concern has brought these events, and now it is: how many of them are the
// application's, in place. None: wait again.
int epoll_waited(int set, epoll_event* events, int count);
Answer<int> poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask);
// `timeout` is updated with the time left, as Linux does for select (not for pselect: give a copy).
Answer<int> select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout, const sigset_t* mask);

}  // namespace rsock::sockets
