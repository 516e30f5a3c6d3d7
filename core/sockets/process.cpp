// The library begins, forks and ends with its process.

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "core/base/lines.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"
#include "core/engine/service/service.hpp"
#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

struct Process {
  std::string program;
  std::string statistics_file;
  Again again;
  std::atomic<bool> finished = false;
  // Of those from whom this process was forked, eldest first: their lines stay open.
  std::vector<const engine::Family*> ancestors;
  bool filtered = false;  // no system call may be made that the program does not make itself
};
// Leaked on purpose: other threads may call us until the very end of the process.
Process* process = nullptr;

engine::Settings settings_of(const config::Config& config) {
  const auto& options = config.options;
  engine::Settings settings;
  settings.rendezvous = options.rendezvous_ms;
  settings.young = options.young_ms;
  settings.dial = options.dial_ms;
  settings.spin = options.spin_us;
  settings.drain = options.drain_ms;
  settings.ring_min = static_cast<uint32_t>(options.ring_min);
  settings.ring_max = static_cast<uint32_t>(options.ring_max);
  settings.max_pinned = options.max_pinned;
  settings.check_peer_address = options.check_peer_address;
  settings.device = options.device;
  settings.rings_allowed = options.io_uring == config::IoUring::tcp;
  settings.secrets = config.secrets;
  return settings;
}

void write_statistics() {
  if (process->statistics_file.empty()) return;
  const auto line = statistics.to_json(process->program);
  auto file = lines::open(process->statistics_file.c_str(), 0666);
  const auto written = file ? lines::append(file->get(), line) : Errno{file.error()};
  if (!written) log::warning("statistics cannot be written: errno {}", written.error());
}

void write_statistics_once() {
  if (!process->finished.exchange(true)) write_statistics();
}

void new_engine() {
  const auto& config = *state.config.load(std::memory_order_acquire);
  if (!config.rules.any_listen() && !config.rules.any_connect()) return;
  state.engine = new engine::Engine(settings_of(config));
  state.engine->program = {.name = process->program,
                           .reload = [] { return reload(process->again); },
                           .asked = EpollSet::answer_family,
                           .ended = write_statistics_once,
                           .make_room = [] { EpollSet::give_back_all(), Bell::give_back_all(); },
                           .settle_in = EpollSet::settle_in_all};
}

// Lets what closed flows still hold reach the peer: until all of them are done, or the bound is reached.
void drain() {
  // Exit may be called from a signal handler, which may have interrupted the very thread that holds the lock.
  const Held no_handler;
  const auto patience = now() + state.engine->settings.drain;
  while (!state.engine->lock.try_lock()) {
    if (now() >= patience) return;
    const timespec pause{0, 1'000'000};
    kernel.syscall(SYS_nanosleep, &pause, nullptr);
  }
  Section section(std::adopt_lock);
  auto& engine = section.engine();
  engine.ended_by = sys::thread_id();
  let_go_of_sets(section);
  const auto deadline = now() + engine.settings.drain;
  std::vector<std::shared_ptr<engine::Flow>> flows;
  for (const auto& [id, flow] : engine.flows()) flows.push_back(flow);
  for (const auto& flow : flows) flow->close(false);
  const Attendance attendance(engine);
  const auto done = [&] {
    return std::all_of(flows.begin(), flows.end(), [](const auto& flow) { return flow->finished(); });
  };
  while (!done() && now() < deadline) {
    engine.arm();
    (void)engine.drain();
    if (done()) break;
    std::vector<pollfd> fds;
    for (const int source : engine.sources()) fds.push_back({source, POLLIN, 0});
    ++engine.asleep;
    {
      // The service looks after TCP meanwhile; a flow that ends there is noticed at the next turn.
      const Section::Outside outside;
      const timespec turn{0, 5'000'000};
      const bool slept = kernel.syscall(SYS_ppoll, fds.data(), fds.size(), &turn, nullptr, 0) >= 0;
      if (!slept) kernel.syscall(SYS_nanosleep, &turn, nullptr);  // the process may have fewer descriptors by now
    }
    --engine.asleep;
    engine.acknowledge();
  }
}

// All flows are on TCP, and stay there.
void leave_to_kernel() {
  EpollSet::give_up_all();
  std::vector<std::shared_ptr<engine::Flow>> flows;
  for (const auto& [id, flow] : state.engine->flows()) flows.push_back(flow);
  for (const auto& flow : flows) flow->leave(Reason::shared);
}

// Nothing of the library moves: its thread is not at work, and no call is under way. Another thread's call may start
// the service until the lock is held.
void stop() {
  hold();
  for (;;) {
    auto* const service = state.engine->service_if_any();
    if (service) {
      service->await_begin();
      service->at_work.lock();
    }
    state.engine->lock.lock();
    if (service == state.engine->service_if_any()) return;
    state.engine->lock.unlock();
  }
}

void resume() {
  auto* const service = state.engine->service_if_any();
  state.engine->lock.unlock();
  if (service) service->at_work.unlock();
  let_go();
}

}  // namespace

void start(const config::Config& config, std::string_view program, std::string_view statistics_file,
           const Again& again) {
  process = new Process;
  process->program = program;
  process->statistics_file = statistics_file;
  process->again = again;
  state.config = new config::Config(config);
  state.process = sys::process_id();
  new_engine();
}

bool in_borrowed_memory() { return process && sys::process_id() != state.process; }

void finish() {
  if (!process || process->filtered || in_borrowed_memory()) return;
  if (process->finished.exchange(true)) return;
  if (state.engine) {
    let_go_of_inherited();
    drain();
  }
  write_statistics();
}

void finish_in_handler() {
  if (!process || process->filtered || !state.engine || in_borrowed_memory()) return;
  if (signals.held.load(std::memory_order_relaxed) > 0 && !Lock::waits_here()) return;
  if (auto* service = state.engine->service_if_any()) service->deliver_all();
}

void thread_ends(int status) {
  if (!state.engine || process->filtered || in_borrowed_memory()) return;
  if (auto* service = state.engine->service_if_any()) service->thread_ends(status);
}

void end_in_time(int signal) {
  if (!process || process->filtered || !state.engine || in_borrowed_memory()) return;
  if (auto* service = state.engine->service_if_any()) service->end_in_time(signal);
}

// Without memory to share what it has, the parent forks all the same; the child has lost those flows.
void before_fork() {
  if (!state.engine) return;
  stop();
  try {
    // No service could be called by the child: it gets what is the kernel's.
    if (const auto* service = state.engine->service_if_any(); service && service->absent()) leave_to_kernel();
    share_with_child(*state.engine);
    if (state.engine->has_family()) state.engine->family()->open_line();
  } catch (const std::bad_alloc&) {
  }
}

void after_fork_in_parent() {
  if (!state.engine) return;
  if (state.engine->has_family()) state.engine->service().listen_to_child(state.engine->family()->parents_end());
  resume();
}

// The child starts with nothing: no engine, no thread, no lane. The parent's engine stays in memory, unused: its locks
// and threads are not ours. The lines to it and to its parents stay open.
void after_fork_in_child() {
  statistics.clear();
  state.process = sys::process_id();
  if (process) process->finished = false;
  auto* old = std::exchange(state.engine, nullptr);
  if (!old) return;
  Lock::forked();
  forget_put_off();
  inherit(*old);
  if (old->has_family()) process->ancestors.push_back(old->family());
  const auto is_kept = [](int fd) {
    return fd == log::descriptor() || std::any_of(process->ancestors.begin(), process->ancestors.end(),
                                                  [&](const auto* family) { return family->line() == fd; });
  };
  for (int fd = own::next(0); fd >= 0; fd = own::next(fd + 1)) {
    if (is_kept(fd)) continue;
    own::forget(fd);
    (void)sys::close(fd);
  }
  engine::Service::forked();
  EpollSet::forget_all();
  Bell::forget_all();
  Reserve::forget_all();
  Duty::forget_all();
  new_engine();
  if (!state.engine) return let_go();
  state.engine->gate = old->gate;
  state.engine->gate.bar(false);
  if (old->forgone()) state.engine->forgo_lanes(*old->forgone());
  let_go();
}

namespace {

// A child of vfork is about to become another program, in its parent's memory and with copies of its descriptors. What
// it has as standard streams may be flows of the parent's, under numbers of which the table knows nothing: the kernel
// knows who they are. The parent's service thread is at work meanwhile, and hears of the end of each leave. Nothing
// here opens or closes anything.
void before_exec_in_borrowed_memory() {
  constexpr timespec kTurn{0, 200'000};
  const auto deadline = now() + kLeaveBound;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    Endpoint local, remote;
    if (!endpoints_of(fd, local, remote)) continue;
    for (bool told = false;; told = true) {
      if (told) kernel.syscall(SYS_nanosleep, &kTurn, nullptr);
      const Section section;
      const auto flow = section.engine().find_flow(local, remote);
      if (!flow || flow->kernel_follows() || flow->over()) break;
      if (!told) flow->leave(Reason::shared);
      if (now() < deadline) continue;
      flow->break_off();
      break;
    }
  }
}

std::vector<std::shared_ptr<engine::Flow>> all_flows(const Section& section) {
  std::vector<std::shared_ptr<engine::Flow>> flows;
  for (const auto& [id, flow] : section.engine().flows()) flows.push_back(flow);
  return flows;
}

// All are on their way.
void await_all(Section& section, Reason reason) {
  const auto deadline = now() + kLeaveBound;
  for (const auto& flow : all_flows(section))
    if (!flow->on_kernel()) leave_or_break(section, flow, reason, deadline);
}

void leave_all(Section& section, Reason reason = Reason::shared) {
  give_up_shared_sets(section);
  for (const auto& flow : all_flows(section)) flow->leave(reason);
  await_all(section, reason);
}

// From now on: no flow is in a lane, and none will be.
void give_up_lanes(Reason reason) {
  static const config::Config nothing;
  state.config = &nothing;
  Section section;
  leave_all(section, reason);
}

}  // namespace

void before_exec() {
  if (!state.engine) return;
  if (in_borrowed_memory()) return before_exec_in_borrowed_memory();
  Section section;
  leave_all(section);
  hand_to_next_program(section);
}

Still::Still() {
  if (state.engine) stop();
}
Still::~Still() {
  if (state.engine) resume();
}

bool only_thread() {
  struct stat tasks {};  // one link for each, and two of the folder's own
  if (kernel.syscall(SYS_stat, "/proc/self/task", &tasks) != 0) return false;
  const auto* service = state.engine ? state.engine->service_if_any() : nullptr;
  return tasks.st_nlink == 3u + (service && service->runs());
}

void before_unshare() {
  if (!state.engine || in_borrowed_memory()) return;
  give_up_lanes(Reason::shared);
}

void before_filter() {
  if (!process || process->filtered || in_borrowed_memory()) return;
  if (state.engine) {
    give_up_lanes(Reason::unserved_call);
    {
      Section section;
      leave_to_kernel(section);
    }
    if (auto* service = state.engine->service_if_any()) service->retire();
  }
  write_statistics();
  process->filtered = true;
}

bool before_ring() {
  if (!state.engine) return true;
  if (!state.engine->settings.rings_allowed) return false;
  if (in_borrowed_memory()) return true;
  Section section;
  section.engine().forgo_lanes(Reason::io_uring);
  await_all(section, Reason::io_uring);
  return true;
}

void before_daemon() {
  if (!state.engine || in_borrowed_memory()) return;
  Section section;
  leave_all(section);
}

void became_daemon() {
  if (!state.engine) return;
  const Section section;
  let_go_for_parent();
}

void exec_failed() {
  if (!state.engine || in_borrowed_memory()) return;
  const Section section;
  keep_after_all();
}

}  // namespace rsock::sockets
