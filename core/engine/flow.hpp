#pragma once
// One selected TCP connection, seen from one of its ends: the shadow socket, the machine that says where its bytes go, the two
// rings while it is in a lane, and who wants to hear of it. Everything here is under the engine's lock and never blocks;
// what would block gives EAGAIN.
//
// The application's incoming bytes come from these sources, in this order; each is empty or shut before the next counts:
//
//   rest_in_ (what a lane left behind)  >  TCP raw, up to N if a token is due  >  the ring  >  TCP raw
//
// Its outgoing bytes go to one of: TCP (after rest_out_, what must be sent again, is gone), the ring, or nowhere (resuming).

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/endpoint.hpp"
#include "core/base/reason.hpp"
#include "core/base/statistics.hpp"
#include "core/base/unique_fd.hpp"
#include "core/engine/share.hpp"
#include "core/flow/machine.hpp"
#include "core/flow/rings.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/message.hpp"

struct iovec;

namespace rsock::engine {

class Engine;
class Flow;
class Link;

// Hears of every change that may matter to somebody who waits for the flow.
class Observer {
 public:
  // `what`: the readiness that has come, as epoll events, also where it was there before (more bytes behind unread ones): what
  // would wake somebody who waits in the kernel. 0: only on_kernel() may have changed.
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
  void set_endpoints(const Endpoint& local, const Endpoint& remote) { local_ = local, remote_ = remote; }
  flow::State state() const { return state_; }
  Stage stage() const;
  Lane lane() const { return link_lane_; }  // of a flow that is not on TCP

  // A rule selected it: from now on it may enter one of `lanes`, and counts.
  void select(Lanes lanes);
  bool selected() const { return selected_; }
  // The application's descriptor `from` is closed; `to` names the flow still.
  void renamed(int from, int to) {
    if (fd_ == from) fd_ = to;
  }
  // Its program used it in this process.
  bool used = false;
  bool expected = false;  // its rendezvous point was asked for

  // ---- the lane: may it be entered, and how
  // The kernel serves this flow for good; `reason` is counted once.
  void settle(Reason reason);
  bool settled() const { return settled_; }
  std::optional<Reason> settled_for() const { return settled_ ? std::optional(settled_for_) : std::nullopt; }
  // On TCP both ways with nothing pending, so that a cutover may begin; and the gate is open.
  bool eligible() const;
  // The same, whatever the gate.
  bool free_to_enter() const;
  bool admitted() const;  // the gate is open
  // Not eligible, but may be before long.
  bool not_yet() const { return selected_ && !settled_ && !leaving_ && !half_closed() && !eligible(); }
  // The kernel's readiness of the application's descriptor is the truth.
  bool on_kernel() const;
  // Its peer has gone: what is left of it can no longer come by TCP.
  bool over() const { return peer_closed_ || state_ == flow::State::broken; }
  // Its peer has gone, and will let the kernel know: over(), but not for good.
  bool ending() const { return peer_closed_; }
  // The kernel's readiness, error and state are the truth, but that bytes may be here that come before the kernel's.
  bool kernel_follows() const;
  // Looks whether the kernel has heard of the end by now, and whether somebody waits for that.
  void end_on_kernel();
  // The kernel would say that it is no longer connected.
  bool disconnected() const { return !kernel_follows() && (error_ || dead_ || both_ended()); }
  void claim(Link& link);                                 // S: a link to the peer's address is there
  bool claimed(Link& link, const wire::Claim& claim);     // C: false if it has no resources
  // The peer had time enough to answer: an end that has shown no token gives up the cutover, and what was closed does not
  // wait for a peer that has gone.
  void give_up();
  // Leaves the lane on purpose, for good. kernel_follows() tells when it is done.
  void leave(Reason reason);
  // Leaves the lane until the gate opens again.
  void step_aside();
  void link_failed(Reason reason);
  bool claims() const { return state_ == flow::State::claimed; }
  // It has the peer's CONFIRM, and does not act on it yet.
  bool holds_back() const { return state_ == flow::State::accepted && held_confirm_; }
  // It was in a lane, or on its way there, and may enter one again.
  bool lost_lane() const { return lost_lane_; }
  // No lane was found for it. It settles, unless it had one: then it is tried again after a while, many times if what is lacking
  // may come back by itself, a few times if not.
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
  Share* share() const { return share_; }
  // In a child: it is this process that uses it first.
  void take(Share& share) { share_ = &share, taken_ = true; }
  bool wanted_elsewhere() const { return share_ && !taken_ && share_->place() == Share::Place::wanted; }
  void leave_to_family();

  // ---- bytes of the application. EAGAIN: nothing now.
  Result<size_t> read(std::span<const iovec> to, bool peek);
  // on_kernel(): a read of no bytes, or of some to where nothing can be written, which the kernel alone knows at an urgent mark.
  Result<size_t> read_nothing(bool to_bad_place, bool peek);
  // on_kernel(): a read whose bytes go nowhere; how many they are.
  Result<size_t> drop_raw(size_t room, bool peek);
  Result<size_t> write(std::span<const iovec> from, size_t skip);
  // The error that the next write would give, whatever its size; it is taken.
  Status may_write();
  // A short wait for more is worth it (MSG_MORE): bytes gather until uncork() or a write without it.
  void cork(bool on);
  void gather(bool on) { corked_ = on; }  // the same, from the next write on
  void cork_expired();
  void push();  // what gathered goes; the next gathers again
  void count_in(size_t bytes) { raw_in_ += bytes, go_on(); }
  void count_out(size_t bytes) { raw_out_ += bytes; }

  // The program looks for more than it has, without taking that: what waits behind unread bytes has to come nearer.
  void look_further();
  // The kernel ends a read before urgent data.
  bool at_urgent_mark() const;

  // ---- state as the application sees it
  // SO_RCVLOWAT: fewer bytes do not make it readable, unless the ring is full of them.
  size_t low_water() const { return low_water_; }
  // Options were set: takes note of those that a lane honours.
  void learn_options();
  void low_water_set();
  // SO_LINGER with 0.
  bool resets_on_close() const;
  // The program wants to hear of what only TCP has: O_ASYNC, timestamps, TCP_INQ.
  bool asks_for_segments() const;
  static bool is_of_segments(int level, int name);
  // Whoever asks may know that bytes are there of which the service has not heard: does the service's work.
  void catch_up();
  // All events that the kernel's poll would report for the socket; only if not on_kernel().
  uint32_t readiness();
  size_t readable_bytes();       // FIONREAD
  // recv(MSG_OOB) is for the kernel to answer.
  bool urgent_by_kernel() const { return flow::receives(state_) == flow::Receives::raw; }
  bool urgent_is_next() const { return rest_in() == 0 && at_urgent_mark(); }  // SIOCATMARK
  size_t unsent_bytes() const;   // SIOCOUTQ
  int take_error();              // SO_ERROR
  Status shutdown(int how);
  // The kernel shut the socket down, on_kernel().
  void kernel_shut();
  // connect(2) on it failed: if that has made the kernel forget the connection that there was, what was unread of it is gone.
  void dissolved();
  // The application closed its last descriptor. What is left drains; `hard`: as SO_LINGER with 0.
  void close(bool hard);
  bool closing() const { return closing_; }
  // A call waits in it: as in the kernel, closing the descriptor meanwhile takes effect when the last such call is over.
  void hold() { ++held_; }
  void release_hold();
  void close_when_free(bool hard);
  bool finished() const { return finished_; }

  void observe(Observer& observer) { observers_.push_back(&observer); }
  void unobserve(Observer& observer);
  // A copy: who is told may go, and take others along.
  std::vector<Observer*> observers() const { return observers_; }

  // ---- from the service thread
  // The shadow socket may have become readable or writable.
  void tcp_ready(uint32_t events);
  bool anchored() const { return static_cast<bool>(anchor_); }
  int shadow() const { return anchor_ ? anchor_.get() : fd_; }

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
  bool handle(const wire::ConfirmAck& ack);
  bool handle(const wire::Decline& decline);
  bool handle(const wire::Window& window);
  bool handle(const wire::Blocked& blocked);
  bool handle(const wire::Grow& grow);
  bool handle(const wire::Switch& change);
  bool handle(const wire::Fin& fin);
  bool handle(const wire::Reset& reset);
  bool handle(const wire::Retire& retire);

  // Links that were asked for this flow already.
  std::set<uint64_t> tried;
  Time sought_until{};  // the end of the search for its peer, once that began
  int times_found = 0;  // how often its own point was answered
  // The search for its peer begins afresh.
  void seek_again() { tried.clear(), sought_until = {}, times_found = 0, sought = Lane::tcp; }
  Lanes wanted;
  Lane sought = Lane::tcp;  // where its peer is looked for; tcp: nowhere yet

 private:
  // cutover.cpp
  void apply(flow::Event event, flow::Facts facts = {});
  void act(flow::Action action);
  void time_way_back(flow::State before);
  bool bind(Link& link);
  Status begin_sending(const wire::RingPlace& place);
  bool waits_for_reader(uint64_t boundary) const;
  void go_on();
  void say_blocked();
  bool confirm(const wire::Accept& accept);
  bool ensure_anchor();
  std::optional<Reason> unfit() const;
  void returned();
  bool half_closed() const { return closing_ || tcp_eof_ || tcp_shut_ || read_shut_ || write_shut_; }
  bool tcp_over() const;
  void stop_watching();
  void freeze();
  void resend(uint64_t from);
  void leave_link(bool finished);
  void release_link();
  // tcp.cpp
  void pump_tcp();
  bool read_token();
  bool read_frame();
  Result<size_t> arrive(size_t whole);
  // Into `to` from its byte `at` on, as below.
  Result<size_t> read_raw(std::span<const iovec> to, size_t at, uint64_t most, bool peek);
  Result<size_t> taken_raw(Result<size_t> got, bool peek);
  Result<size_t> write_raw(std::span<const iovec> from, size_t skip);
  bool flush();
  uint32_t tcp_input();
  void tcp_ended(int error);
  bool ended_instead() const;
  // lane.cpp
  Result<size_t> read_any(std::span<const iovec> to, bool peek);
  size_t read_rest(std::span<const iovec> to, bool peek);
  // Into `to` from its byte `at` on.
  size_t read_ring(std::span<const iovec> to, size_t at, bool peek);
  size_t read_behind(std::span<const iovec> to, size_t at, bool peek);
  void tell_window();
  template <class Data>
  bool landed(Data data);
  bool worth_gathering() const;
  void offer_growth();
  void collect_memory();
  // shared.cpp
  void tell_family();
  void let_go();
  // close.cpp
  void send_end();
  void end_waits();
  void abort();
  void advance_reset();
  void reset_by_peer();
  void close_hard();
  bool tcp_at_end() const;
  void settle_connect();
  // options.cpp
  void mind_low_water();
  void provoke_reset();
  bool peer_may_end() const;
  void advance_close();
  void copy_unread(std::vector<std::byte>& to) const;
  void take_held();
  void salvage();
  void fail(int error);
  void finish();
  void take_raw();
  void discard_raw();
  void changed(uint32_t what = kAnything);
  static constexpr uint32_t kAnything = ~0u;
  // While it lives, something changes: then the observers are told what came. As in the kernel, an end or an error is for all who
  // wait for anything.
  class Change {
   public:
    explicit Change(Flow& flow) : flow_(flow), before_(flow.observers_.empty() ? 0 : flow.readiness()) {}
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    Flow& flow_;
    const uint32_t before_;
  };
  uint32_t heard_by_application(uint32_t tcp_events) const;

  uint64_t boundary_left() const { return peer_offset_ - raw_in_; }
  // The bytes that left TCP make it readable.
  bool enough() const { return low_water_ == 1 || rest_in() + ring_in() >= low_water_ || rx_.full(); }
  // What TCP has next is the application's.
  bool reads_raw() const {
    const auto source = flow::receives(state_);
    return source == flow::Receives::raw || (source == flow::Receives::raw_to_boundary && boundary_left() > 0);
  }
  size_t rest_in() const { return rest_in_.size() - rest_in_at_; }
  // Ring bytes that the application may read.
  size_t ring_in() const { return flow::delivers_ring(state_) && !frozen_ ? rx_.readable() : 0; }
  bool rest_out() const { return control_out_.size() + rest_out_.size() > 0; }
  bool at_end() const;
  // Both streams have ended: the kernel's state CLOSE.
  bool both_ended() const { return fin_ && write_shut_; }
  Result<size_t> read_end();

  Engine& engine_;
  const uint64_t id_;
  const Role role_;
  Endpoint local_, remote_;
  int fd_;
  UniqueFd anchor_;
  bool watched_ = false;
  flow::State state_ = flow::State::tcp;
  bool selected_ = false, settled_ = false, leaving_ = false;
  Reason settled_for_ = Reason::unserved_call, leave_reason_ = Reason::unserved_call, fault_reason_ = Reason::link_failed;
  bool peer_left_ = false;  // for good, as its frame says
  bool aside_ = false, peer_aside_ = false;  // an operator wants it on TCP for a while, at this end or, as its frame says, at the peer's
  Lane furthest_ = Lane::tcp;
  bool been_in_lane_ = false, lost_lane_ = false;
  int tries_ = 0, pauses_ = 0;   // since it was last in a lane for long: that count, and that make it wait
  std::optional<Time> entered_;  // its lane
  Time returning_since_{};       // the way back to TCP has begun
  Lane link_lane_ = Lane::tcp;  // of the link last bound to: it may be left before the flow is seen to enter

  // other processes
  Share* share_ = nullptr;
  bool taken_ = false;       // the share is another process's, and this one used the flow first
  bool letting_go_ = false;  // closed here, while others hold it

  // TCP
  uint64_t raw_in_ = 0, raw_out_ = 0;          // application bytes by TCP, ever
  uint64_t control_in_ = 0, control_sent_ = 0;  // tokens and frames, ever
  bool tcp_in_ready_ = true, tcp_out_ready_ = true, tcp_eof_ = false, tcp_shut_ = false;
  uint64_t own_offset_ = 0, peer_offset_ = 0;  // N of this end and of the peer
  wire::Token shown_token_{}, expected_token_{};
  std::array<uint8_t, wire::kFrameSize> arriving_{};  // a token or frame in parts
  size_t arrived_ = 0;
  std::vector<uint8_t> control_out_;             // token and frames that TCP has not taken yet
  std::vector<std::byte> rest_in_, rest_out_;    // application bytes outside any ring
  size_t rest_in_at_ = 0, rest_out_at_ = 0;
  size_t rest_in_raw_ = 0;  // the first of them, which came by TCP and are counted
  // What the peer said, which is for later: see waits_for_reader().
  std::optional<wire::Accept> held_accept_;
  std::optional<wire::Confirm> held_confirm_;
  bool hurried_ = false;  // no later than now
  bool acknowledged_ = false;  // C has our CONFIRM

  // the lane
  Link* link_ = nullptr;
  wire::Slot slot_ = 0, peer_slot_ = 0;
  bool peer_slot_known_ = false, retired_ = false, peer_retired_ = false;
  flow::TxRing tx_;
  flow::RxRing rx_;
  bool corked_ = false, cork_timed_ = false, said_blocked_ = false;

  // the way back: once frozen, nothing refers to the link's memory any more
  bool frozen_ = false, ring_void_ = false, salvaged_ = false;
  bool waited_ = false;              // yielded, and C has had the time that a cutover may take
  bool ring_counts_ = false;         // the peer's token was seen: ring bytes are the application's
  std::vector<std::byte> held_in_;   // unread ring bytes that count only if they are not sent again, and the peer's token was seen
  std::vector<std::byte> held_out_;  // sent ring bytes that may have to go again
  uint64_t held_out_from_ = 0;       // the ring offset of its first
  uint64_t received_ = 0;            // ring bytes consumed when frozen
  uint64_t peer_received_ = 0;       // what the peer's RESUME says

  // ends of the streams
  size_t low_water_ = 1;
  bool low_water_kept_ = false;  // here, and is 1 in the kernel
  uint32_t largest_ring_ = 0;  // that a sender may be given, as SO_RCVBUF bounds it
  bool read_shut_ = false, write_shut_ = false, fin_sent_ = false, closed_told_ = false;
  std::optional<uint64_t> fin_;  // the peer's total of ring bytes
  bool peer_closed_ = false;
  bool reset_due_ = false;  // the stream ends by RST, once the peer's token has been seen
  int error_ = 0;
  bool dead_ = false;  // an error was shown: reads give 0, writes EPIPE
  bool shut_past_end_ = false;   // the program shut down what was no connection any more
  bool wrote_past_end_ = false;  // to a peer that had closed, whose kernel does not know yet
  bool closing_ = false, abort_due_ = false, aborting_ = false, finished_ = false;
  int held_ = 0;
  std::optional<bool> close_due_;  // and whether by SO_LINGER with 0
  bool peer_over_ = false;  // closing, and the peer's end of TCP was gone when that was last looked at

  // A link may fail from within one of our own actions: that is dealt with after it.
  bool applying_ = false;
  std::optional<Reason> link_failure_;

  std::vector<Observer*> observers_;
};

}  // namespace rsock::engine
