#pragma once
// One selected TCP connection, seen from one of its ends: the shadow socket, the machine that says where its bytes go,
// the two rings while it is in a lane, and who wants to hear of it. Everything here is under the engine's lock and
// never blocks; what would block gives EAGAIN.
//
// The application's incoming bytes come from these sources, in this order; each is empty or shut before the next
// counts:
//
//   unread_ (what a lane left behind)  >  TCP raw, up to N if a mark is due  >  the ring  >  TCP raw
//
// Its outgoing bytes go to one of: TCP (after all that the shadow socket owes is gone), the ring, or the hold:
// entering, from when its N is fixed, and resuming.
//
// Its parts know nothing of each other, and nothing of it: the shadow socket, the candidacy, the terms and the hold of
// a cutover, the binding to a link, the way back, the departure, the ends of the streams. Here they are put together.

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/endpoint.hpp"
#include "core/base/reason.hpp"
#include "core/base/socket_owner.hpp"
#include "core/base/statistics.hpp"
#include "core/engine/flow/binding.hpp"
#include "core/engine/flow/candidacy.hpp"
#include "core/engine/flow/departure.hpp"
#include "core/engine/flow/shadow_socket.hpp"
#include "core/engine/flow/terms.hpp"
#include "core/engine/flow/worth.hpp"
#include "core/engine/share.hpp"
#include "core/flow/ends.hpp"
#include "core/flow/hold.hpp"
#include "core/flow/machine.hpp"
#include "core/flow/unread.hpp"
#include "core/flow/way_back.hpp"
#include "core/wire/capture.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/message.hpp"

struct iovec;

namespace rsock::engine {

class Capture;
class Engine;
class Flow;
class Link;

// Hears of every change that may matter to somebody who waits for the flow.
class Observer {
 public:
  // `what`: the readiness that has come, as epoll events, also where it was there before (more bytes behind unread
  // ones): what would wake somebody who waits in the kernel. 0: only on_kernel() may have changed.
  virtual void flow_changed(Flow& flow, uint32_t what) = 0;
  // The program shuts it down, where it is the kernel's.
  virtual void flow_shut(Flow&) {}
  // The program lets go of the flow: it closed its last descriptor, or the flow will never be one of ours (`disowned`).
  virtual void flow_gone(Flow&, bool /*disowned*/) {}
  // It closed this descriptor, and has others for the flow.
  virtual void descriptor_gone(Flow&, int /*fd*/) {}

 protected:
  ~Observer() = default;
};

enum class Role { connector, acceptor };
// Where a flow is, to whoever watches. Nothing of a flow on `tcp` is in a link's hands.
enum class Stage { tcp, entering, lane, leaving };
enum class Gather : bool { no, yes };

class Flow : public std::enable_shared_from_this<Flow> {
 public:
  // `fd`: the application's descriptor. The flow uses it until it has a duplicate of its own.
  Flow(Engine& engine, uint64_t id, Role role, int fd);
  ~Flow();
  Flow(const Flow&) = delete;

  // ---- identity
  uint64_t id() const { return id_; }
  Role role() const { return role_; }
  const Endpoint& local() const { return local_; }
  const Endpoint& remote() const { return remote_; }
  void set_endpoints(const Endpoint& local, const Endpoint& remote) {
    local_ = local, remote_ = remote, peer_user_.reset();
  }
  flow::State state() const { return machine_.state(); }
  Stage stage() const;
  Lane lane() const { return binding_.lane(); }  // of a flow that is not on TCP
  const Link* link() const { return binding_.link(); }
  // For whoever looks at it.
  struct Traffic {
    uint64_t in = 0, out = 0;            // the program's bytes, by whatever way
    uint64_t full = 0;                   // how often a write found no room for all of it in the ring
    uint32_t ring_in = 0, ring_out = 0;  // bytes; 0: there is none
  };
  Traffic traffic() const;
  // What libc moves where the kernel serves every call: counted without the lock, where the descriptor is known.
  struct Passed {
    std::atomic<uint64_t> in{0}, out{0};
  };
  // nullptr: no more.
  void note_passed(const Passed* passed);
  Time since() const { return seen_.since; }  // it was selected
  // From now on what goes through its lane is captured, if the capture is about it; nullptr: no more.
  void tap(Capture* capture);

  // A rule selected it: from now on it may enter one of `lanes`, and counts.
  void select(Lanes lanes);
  bool selected() const { return candidacy_.selected(); }
  // The application's descriptor `from` is closed; `to` names the flow still.
  void renamed(int from, int to) { socket_.renamed(from, to); }

  // ---- the lane: may it be entered, and how
  // The kernel serves this flow for good; `reason` is counted once.
  void settle(Reason reason);
  bool settled() const { return candidacy_.settled(); }
  std::optional<Reason> settled_for() const { return candidacy_.settled_for(); }
  // Where its peer is looked for, and what came of it.
  Candidacy& candidacy() { return candidacy_; }
  const Candidacy& candidacy() const { return candidacy_; }
  Worth& worth() { return worth_; }  // by what it did so far
  // On TCP both ways with nothing pending, so that a cutover may begin; and the gate is open.
  bool eligible() const;
  // The same, whatever the gate.
  bool free_to_enter() const;
  bool admitted() const;  // the gate is open
  // Whether the process at the other end of `link` may be the flow's peer: where a link is of a user, the socket at the
  // other end has to be that user's, too. False also while peer_user() is not known, and nothing tells at once.
  bool may_use(const Link& link);
  TcpEnd own_end() const { return {local_, remote_, inode_of(shadow())}; }
  std::optional<uid_t> peer_user() const { return peer_user_; }
  void set_peer_user(uid_t user) { peer_user_ = user; }
  // Not eligible, but may be before long.
  bool not_yet() const { return selected() && !settled() && !departure_.leaving() && !half_closed() && !eligible(); }
  // The kernel's readiness of the application's descriptor is the truth.
  bool on_kernel() const;
  // On TCP again, but what is sent again is not there yet: an end would be none of the stream.
  bool awaits_rest() const;
  // Others may take bytes off TCP from now on: nothing can be counted.
  void forgo_rest() { way_.forgo_rest(); }
  // Its peer has gone: what is left of it can no longer come by TCP.
  bool over() const { return ends_.peer_closed() || state() == flow::State::broken; }
  // Its peer has gone, and will let the kernel know: over(), but not for good.
  bool ending() const { return ends_.peer_closed(); }
  // The kernel's readiness, error and state are the truth, but that bytes may be here that come before the kernel's.
  bool kernel_follows() const;
  // Looks whether the kernel has heard of the end by now, and whether somebody waits for that.
  void end_on_kernel();
  // The kernel would say that it is no longer connected.
  bool disconnected() const { return !kernel_follows() && (ends_.failed() || ends_.both_ended()); }
  void claim(Link& link);                              // S: a link to the peer's address is there
  bool claimed(Link& link, const wire::Claim& claim);  // C: false if it has no resources
  // The peer had time enough to answer: an end that has shown no token gives up the cutover, and what was closed does
  // not wait for a peer that has gone.
  void give_up();
  // Leaves the lane on purpose, for good. kernel_follows() tells when it is done.
  void leave(Reason reason);
  // It is not there in time, and somebody is about to use the kernel's socket: it ends by a reset, here and there.
  void break_off();
  // Leaves the lane until the gate opens again.
  void step_aside(Reason reason);
  // Wakes those who wait for it.
  void stir() { changed(0); }
  // On TCP, and the descriptor of the library's own is given back. False if the flow needs it still.
  bool gives_anchor_back();
  void link_failed(Reason reason);
  bool claims() const { return state() == flow::State::claimed; }
  // Its program's bytes wait for the cutover.
  bool holds() const { return flow::holds(state()); }
  // How long it may last in its present state, until give_up().
  Duration cutover_limit() const;
  // It was in a lane, or on its way there, and may enter one again.
  bool lost_lane() const { return candidacy_.lost_lane(); }
  // No lane was found for it. It settles, unless it had one: then it is tried again after a while, many times if what
  // is lacking may come back by itself, a few times if not.
  void not_served(Reason reason);
  // The peer cannot take it now: later.
  void not_now();
  // How long to wait before the next try.
  Duration pause() const;

  // ---- other processes that hold its descriptor (flow/shared.cpp, share.hpp)
  // The program uses it for the first time. False if it stays on TCP, for good or while others hold it, too.
  bool first_use();
  // fork(2) is about to give its descriptors to a child.
  void share_with_child(Family& family);
  Share* share() const { return sharing_.share; }
  // In a child: it is this process that uses it first.
  void take(Share& share) { sharing_.share = &share, sharing_.taken = true; }
  bool wanted_elsewhere() const;
  void leave_to_family();

  // ---- bytes of the application. EAGAIN: nothing now.
  Result<size_t> read(std::span<const iovec> to, bool peek);
  // on_kernel(): a read of no bytes, or of some to where nothing can be written, which the kernel alone knows at an
  // urgent mark.
  Result<size_t> read_nothing(bool to_bad_place, bool peek);
  // on_kernel(): a read whose bytes go nowhere; how many they are.
  Result<size_t> drop_raw(size_t room, bool peek);
  Result<size_t> write(std::span<const iovec> from, size_t skip);
  // The error that the next write would give, whatever its size; it is taken.
  Status may_write();
  // A short wait for more is worth it (MSG_MORE): bytes gather until uncork() or a write without it.
  void cork(bool on);
  void gather(bool on) { cork_.on = on; }  // the same, from the next write on
  void cork_expired();
  void push();  // what gathered goes; the next gathers again
  void count_in(size_t bytes) { socket_.count_in(bytes), go_on(); }
  void count_out(size_t bytes) { socket_.count_out(bytes); }

  // The kernel ends a read before urgent data.
  bool at_urgent_mark() const;

  // ---- state as the application sees it
  // SO_RCVLOWAT: fewer bytes do not make it readable, unless the ring is full of them.
  size_t low_water() const { return low_water_.bytes; }
  // Options were set: takes note of those that a lane honours.
  void learn_options();
  void low_water_set();
  // The program set TCP_NODELAY: whatever is held goes at once, corked or not.
  void nodelay_set() { socket_.nodelay_set(), push(); }
  // What the program set, where the kernel has something else.
  std::optional<int> own_nodelay() const { return socket_.own_nodelay(); }
  std::optional<int> own_low_water() const {
    return low_water_.kept ? std::optional(static_cast<int>(low_water_.bytes)) : std::nullopt;
  }
  bool asks_for_segments() const { return socket_.asks_for_segments(); }
  // Whoever asks may know that bytes are there of which the service has not heard: does the service's work.
  void catch_up();
  // All events that the kernel's poll would report for the socket; only if not on_kernel().
  uint32_t readiness();
  size_t readable_bytes();  // FIONREAD
  bool peer_ended() const;  // the end of its stream is here, if behind unread bytes
  int unread_hint();        // TCP_CM_INQ
  // recv(MSG_OOB) is for the kernel to answer.
  bool urgent_by_kernel() const { return receives() == flow::Receives::raw; }
  bool urgent_is_next() const { return unread_.size() == 0 && at_urgent_mark(); }  // SIOCATMARK
  size_t unsent_bytes() const;                                                     // SIOCOUTQ
  int take_error() { return ends_.take_error(); }                                  // SO_ERROR
  Status shutdown(int how);
  // The kernel shut the socket down, on_kernel().
  void kernel_shut();
  // connect(2) on it failed: if that has made the kernel forget the connection that there was, what was unread of it is
  // gone.
  void dissolved();
  // The application closed its last descriptor. What is left drains; `hard`: as SO_LINGER with 0.
  void close(bool hard);
  bool closing() const { return ends_.closing(); }
  // A call waits in it: as in the kernel, closing the descriptor meanwhile takes effect when the last such call is
  // over.
  void hold() { ++calls_.within; }
  void release_hold();
  void close_when_free();
  // on_kernel(), for good: the connection goes on without us.
  void disown();
  bool finished() const { return finished_; }

  void observe(Observer& observer) { observers_.push_back(&observer); }
  void unobserve(Observer& observer);
  // A copy: who is told may go, and take others along.
  std::vector<Observer*> observers() const { return observers_; }

  // ---- from the service thread
  // The shadow socket may have become readable or writable.
  void tcp_ready(uint32_t events);
  // TCP has ended, and all that the peer put on the link before is counted.
  void decide_end();
  bool anchored() const { return socket_.anchored(); }
  int shadow() const { return socket_.fd(); }

  // ---- from the link
  bool data_landed(uint32_t length);                 // by a write into the ring
  bool data_landed(std::span<const uint8_t> bytes);  // to be put into the ring
  // Posts what was appended, unless it is worth waiting for more.
  void pump(Gather gather = Gather::yes);
  // The bytes that may go in a message beside those of other flows: all that is not posted, if it is little.
  size_t packable() const;
  void pack(wire::Packer& packer);
  // False if the message cannot be expected here: the peer loses its link.
  bool handle(const wire::Accept& accept);
  bool handle(const wire::Confirm& confirm);
  bool handle(const wire::Witness& witness);
  bool handle(const wire::Decline& decline);
  bool handle(const wire::Window& window);
  bool handle(const wire::Blocked& blocked);
  bool handle(const wire::Grow& grow);
  bool handle(const wire::Switch& change);
  bool handle(const wire::Fin& fin);
  bool handle(const wire::Reset& reset);
  bool handle(const wire::Retire& retire);

 private:
  // cutover.cpp
  void apply(flow::Event event, flow::Facts facts = {});
  void act(flow::Action action);
  void time_way_back(flow::State before);
  bool bind(Link& link);
  void fix_offset();
  Status make_room_at_peer(const wire::RingPlace& place);
  bool out_of_reach(uint64_t boundary) const;
  void turn_back();
  bool waits_for_reader(uint64_t boundary) const;
  bool arrived(uint64_t boundary) const;
  void go_on();
  bool confirm(const wire::Accept& accept);
  bool agree(const wire::Accept& accept);
  void press_on();
  void miss_retire();
  Result<size_t> hold(std::span<const iovec> from, size_t skip);
  void mind_hold();
  void let_held_go();
  void take_up_to_mark();
  bool ensure_anchor();
  std::optional<Reason> unfit() const;
  void entered();
  void on_tcp_again(flow::State before);
  void returned();
  bool half_closed() const {
    return closing() || socket_.ended() || socket_.is_shut() || ends_.read_shut() || ends_.write_shut();
  }
  void stop_watching();
  void freeze();
  void resend();
  void leave_link(bool finished);
  // tcp.cpp
  void pump_tcp();
  bool read_mark();
  void take_mark();
  Result<keys::Seen> look_at_mark();
  bool read_frame();
  bool rest_is_missing(const Result<size_t>& got);
  // Into `to` from its byte `at` on, as below.
  Result<size_t> read_raw(std::span<const iovec> to, size_t at, uint64_t most, bool peek);
  Result<size_t> taken_raw(Result<size_t> got, bool peek);
  bool flush();
  void tcp_ended(int error);
  void judge_end(int error);
  // lane.cpp
  Result<size_t> read_any(std::span<const iovec> to, bool peek);
  Result<size_t> read_rest(std::span<const iovec> to, bool peek);
  // Into `to` from its byte `at` on.
  Result<size_t> read_ring(std::span<const iovec> to, size_t at, bool peek);
  size_t read_behind(std::span<const iovec> to, size_t at, bool peek);
  template <class Data>
  bool landed(Data data);
  bool worth_gathering() const;
  // tapped.cpp: only where seen_.tap is
  wire::CaptureRecord record(bool outgoing) const;
  void tap_out(size_t bytes);
  void tap_in(std::span<const std::byte> bytes);
  void tap_rest();
  void tap_end();
  // shared.cpp
  void tell_family();
  void let_go();
  // close.cpp
  void send_end();
  void end_hold();
  void abort();
  void advance_reset();
  void reset_by_peer();
  void settle_connect();
  // options.cpp
  void mind_low_water();
  bool peer_may_end() const;
  void advance_close();
  bool owes_yet();
  void mind_refusal();
  void salvage();
  void fail(int error);
  void lose();
  void let_socket_go();
  void finish();
  void take_raw();
  void bring_raw();
  void discard_raw();
  void changed(uint32_t what = kAnything);
  static constexpr uint32_t kAnything = ~0u;
  // While it lives, something changes: then the observers are told what came. As in the kernel, an end or an
  // error is for all who wait for anything, and bytes that can be read from now on have come, whether or not
  // there were some before.
  class Change {
   public:
    explicit Change(Flow& flow);
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    Flow& flow_;
    uint32_t ready_ = 0;   // before
    size_t readable_ = 0;  // the same
  };
  uint32_t heard_by_application(uint32_t tcp_events) const;

  uint64_t boundary_left() const { return terms_.left(socket_.position_in()); }
  // Where incoming bytes come from: a mark that was seen behind unread bytes has yet to be taken out from between.
  flow::Receives receives() const {
    return terms_.mark_ahead() ? flow::Receives::raw_to_boundary : flow::receives(state());
  }
  // The bytes that left TCP make it readable.
  bool enough() const {
    return low_water_.bytes == 1 || unread_.size() + ring_in() >= low_water_.bytes || binding_.rx.full();
  }
  // What TCP has next is the application's.
  bool reads_raw() const {
    const auto source = receives();
    return source == flow::Receives::raw || (source == flow::Receives::raw_to_boundary && boundary_left() > 0);
  }
  // Ring bytes that the application may read.
  size_t ring_in() const { return flow::delivers_ring(state()) && !way_.frozen() ? binding_.rx.readable() : 0; }
  bool may_hold() const {
    return flow::sends(state()) == flow::Sends::nothing && state() != flow::State::broken && hold_.kept.roomy();
  }
  bool at_end() const;
  bool lane_ended() const;

  // What the program's calls and other threads make of the descriptor.
  struct Calls {
    int within = 0;                 // that wait in it
    std::optional<bool> close_due;  // when they are over, and whether by SO_LINGER with 0
  };
  // Small writes gather in the ring.
  struct Cork {
    bool on = false, timed = false;
  };
  // SO_RCVLOWAT: what the program set, and whether it is kept here, and 1 in the kernel.
  struct LowWater {
    size_t bytes = 1;
    bool kept = false;
  };
  // Other processes that hold the descriptor.
  struct Sharing {
    Share* share = nullptr;
    bool taken = false;       // the share is another process's, and this one used the flow first
    bool letting_go = false;  // closed here, while others hold it
  };

  Engine& engine_;
  const uint64_t id_;
  const Role role_;
  Endpoint local_, remote_;
  std::optional<uid_t> peer_user_;  // the owner of the socket at the other end, once that was asked
  Candidacy candidacy_;
  Worth worth_;
  ShadowSocket socket_;
  flow::Machine machine_;
  Terms terms_;
  flow::Hold hold_;
  Binding binding_;
  flow::WayBack way_;
  Departure departure_;
  flow::Ends ends_;
  flow::Unread unread_;  // what a lane or a cutover left behind
  Sharing sharing_;
  Calls calls_;
  Cork cork_;
  LowWater low_water_;
  // For whoever looks at it.
  struct Seen {
    Time since{};
    uint64_t times_full = 0;
    Capture* tap = nullptr;
    const Passed* passed = nullptr;
  };
  Seen seen_;
  bool finished_ = false;
  // A link may fail from within one of our own actions: that is dealt with after it.
  bool applying_ = false;
  std::optional<Reason> link_failure_;
  std::vector<Observer*> observers_;
};

}  // namespace rsock::engine
