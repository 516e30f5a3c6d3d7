// The library begins, forks and ends with its process.

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"
#include "core/engine/service.hpp"
#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

struct Process {
  std::string program;
  std::string statistics_file;
  Again again;
  std::atomic<bool> finished = false;
  bool filtered = false;  // no system call may be made that the program does not make itself
};
// Leaked on purpose: other threads may call us until the very end of the process.
Process* process = nullptr;

engine::Settings settings_of(const config::Options& options) {
  engine::Settings settings;
  settings.rendezvous = options.rendezvous_ms;
  settings.dial = options.dial_ms;
  settings.spin = options.spin_us;
  settings.drain = options.drain_ms;
  settings.ring_min = static_cast<uint32_t>(options.ring_min);
  settings.ring_max = static_cast<uint32_t>(options.ring_max);
  settings.max_pinned = options.max_pinned;
  settings.check_peer_address = options.check_peer_address;
  settings.device = options.device;
  return settings;
}

void write_statistics() {
  if (process->statistics_file.empty()) return;
  const auto line = statistics.to_json(process->program);
  const auto file = sys::open(process->statistics_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (!file) return log::warning("statistics cannot be written: errno {}", file.error());
  (void)sys::write(*file, line.data(), line.size());
  (void)sys::close(*file);
}

void write_statistics_once() {
  if (!process->finished.exchange(true)) write_statistics();
}

void new_engine() {
  const auto& config = *state.config.load(std::memory_order_acquire);
  if (!config.rules.any_listen() && !config.rules.any_connect()) return;
  state.engine = new engine::Engine(settings_of(config.options));
  state.engine->program = {process->program, [] { return reload(process->again); }, EpollSet::answer_family,
                           write_statistics_once};
}

// Lets what closed flows still hold reach the peer: until all of them are done, or the bound is reached.
void drain() {
  // Exit may be called from a signal handler, which may have interrupted the very thread that holds the lock.
  const auto patience = now() + state.engine->settings.drain;
  while (!state.engine->lock.try_lock()) {
    if (now() >= patience) return;
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  state.engine->lock.unlock();
  Section section;
  let_go_of_sets(section);
  auto& engine = section.engine();
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
      kernel.syscall(SYS_ppoll, fds.data(), fds.size(), &turn, nullptr, 0);
    }
    --engine.asleep;
    engine.acknowledge();
  }
}

// Nothing of the library moves: its thread is not at work, and no call is under way.
void stop() {
  hold();
  if (auto* service = state.engine->service_if_any()) service->at_work.lock();
  state.engine->lock.lock();
}

void resume() {
  state.engine->lock.unlock();
  if (auto* service = state.engine->service_if_any()) service->at_work.unlock();
  let_go();
}

}  // namespace

void start(const config::Config& config, std::string_view program, std::string_view statistics_file, const Again& again) {
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
  if (!process || process->filtered || !state.engine || signals.held.load(std::memory_order_relaxed) > 0 || in_borrowed_memory()) return;
  if (auto* service = state.engine->service_if_any()) service->deliver_all();
}

void before_fork() {
  if (!state.engine) return;
  stop();
  share_with_child(*state.engine);
}

void after_fork_in_parent() {
  if (!state.engine) return;
  resume();
}

// The child starts with nothing: no engine, no thread, no lane. The parent's engine stays in memory, unused: its locks and threads
// are not ours. Its bell stays open, for the child to call it.
void after_fork_in_child() {
  statistics.clear();
  state.process = sys::process_id();
  if (process) process->finished = false;
  auto* old = std::exchange(state.engine, nullptr);
  if (!old) return;
  forget_put_off();
  inherit(*old);
  const auto* service = old->service_if_any();
  const int called = service && old->has_family() ? service->bell() : -1;
  for (int fd = own::next(0); fd >= 0; fd = own::next(fd + 1)) {
    if (fd == log::descriptor()) continue;
    own::forget(fd);
    if (fd != called) (void)sys::close(fd);
  }
  engine::Service::forked();
  EpollSet::forget_all();
  Bell::forget_all();
  new_engine();
  if (state.engine) state.engine->gate = old->gate;
  let_go();
}

namespace {

// A child of vfork is about to become another program, in its parent's memory and with copies of its descriptors. What it has as
// standard streams may be flows of the parent's, under numbers of which the table knows nothing: the kernel knows who they are.
// The parent's service thread is at work meanwhile, and hears of the end of each leave. Nothing here opens or closes anything.
void before_exec_in_borrowed_memory() {
  constexpr timespec kTurn{0, 200'000};
  const auto deadline = now() + kLeaveBound;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    Endpoint local, remote;
    if (!endpoints_of(fd, local, remote)) continue;
    for (bool told = false, back = false; !back && now() < deadline; told = true) {
      if (told) kernel.syscall(SYS_nanosleep, &kTurn, nullptr);
      const Section section;
      const auto flow = section.engine().find_flow(local, remote);
      back = !flow || flow->kernel_follows() || flow->over();
      if (!back && !told) flow->leave(Reason::shared);
    }
  }
}

void leave_all(Section& section, Reason reason = Reason::shared) {
  give_up_shared_sets(section);
  std::vector<std::shared_ptr<engine::Flow>> flows;
  for (const auto& [id, flow] : section.engine().flows()) flows.push_back(flow);
  for (const auto& flow : flows) flow->leave(reason);
  for (const auto& flow : flows)
    if (!flow->on_kernel()) leave_and_wait(section, flow, reason);
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
  if (::stat("/proc/self/task", &tasks) != 0) return false;
  const bool service = state.engine && state.engine->service_if_any();
  return tasks.st_nlink == 3u + service;
}

void before_unshare() {
  if (!state.engine || in_borrowed_memory()) return;
  give_up_lanes(Reason::shared);
}

void before_filter() {
  if (!process || process->filtered || in_borrowed_memory()) return;
  if (state.engine) {
    give_up_lanes(Reason::unserved_call);
    if (auto* service = state.engine->service_if_any()) service->retire();
  }
  write_statistics();
  process->filtered = true;
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
