#pragma once
// What a link needs of the medium below it, in the words of verbs. One implementation per lane; the engine and the
// flow machine know only this page.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/endpoint.hpp"
#include "core/base/reason.hpp"
#include "core/base/result.hpp"
#include "core/base/statistics.hpp"
#include "core/flow/rings.hpp"
#include "core/wire/greeting.hpp"

namespace rsock::fabric {

// What a connection tells its owner, from within Completions::poll(), under the engine's lock.
class Sink {
 public:
  // The peer wrote `length` bytes and gave this immediate.
  virtual void data_landed(uint32_t immediate, uint32_t length) = 0;
  virtual void message_landed(std::span<const uint8_t> bytes) = 0;
  // Every work request up to the `count`-th ever posted (modulo 2^32) is complete.
  virtual void sends_completed(uint32_t count) = 0;
  virtual void connection_failed() = 0;

 protected:
  ~Sink() = default;
};

// A connected queue pair with its memory, or what stands for it. Made and destroyed by the service thread; used under
// the engine's lock.
class Connection {
 public:
  virtual ~Connection() = default;
  virtual void attach(Sink& sink) = 0;
  // Stops completions from reaching the sink; after it no call to the sink comes.
  virtual void detach() = 0;

  // Bytes into the peer's memory, with an immediate. Its completion is reported only if `signaled`, or with a later
  // one.
  virtual bool post_write(const flow::TxRing::Write& write, uint32_t immediate, bool signaled) = 0;
  // A small message; copied, so `bytes` is free afterwards.
  virtual bool post_message(std::span<const uint8_t> bytes, bool signaled) = 0;

  // Asks the peer's device for a sign of life, and nothing of the peer: takes no credit and is not noticed there.
  virtual bool post_probe(bool signaled) = 0;

  // A ring in memory of this connection that the peer may write into; `size` a power of two of at least a page. ENOMEM:
  // a limit was reached.
  virtual Result<flow::Block> allocate(uint32_t size) = 0;
  virtual void release(flow::Block ring) = 0;
  // Where bytes for the peer's ring at `place` are put, for post_write(): a copy of it, or the ring itself where both
  // ends have it. EPROTO: there is no such place.
  virtual Result<flow::Block> mirror(const wire::RingPlace& place) = 0;
  virtual void release_mirror(flow::Block mirror) = 0;

  // Whatever is posted is complete when the call returns. Completions are not reported, and nothing is gained by
  // posting less often.
  virtual bool completes_at_once() const = 0;

  virtual uint32_t send_depth() const = 0;
  virtual uint32_t receive_depth() const = 0;
  virtual uint32_t largest_write() const = 0;
  virtual Lane lane() const = 0;
  // What the medium itself calls the two ends: this one, and the peer's. Nobody in between is called the same by both
  // ends.
  virtual std::array<uint32_t, 2> numbers() const = 0;
  // The user of the peer's process, where the medium tells: then only flows are the peer's whose socket there is that
  // user's.
  virtual std::optional<uid_t> user() const { return {}; }

  // For whoever looks at it.
  struct Holding {
    std::string device = {};  // its name; empty: there is none
    uint64_t memory = 0;      // bytes that count against the option max_pinned
    uint32_t largest_inline =
        0;  // bytes of a post that the device takes without a look at memory; 0: there is no such thing
  };
  virtual Holding holding() const { return {}; }
};

// Where the completions of all connections of one device arrive, or those of all peers on this host. Under the engine's
// lock. A device that goes leaves its source behind, from which nothing comes until it serves another device.
class Completions {
 public:
  virtual ~Completions() = default;
  // Handles a batch; the number of completions it found. Behind listen() it misses nothing that a peer has posted, but
  // for what it posted and died before its call was over.
  virtual int poll() = 0;
  // Whether events were taken off the descriptor since poll() needs them: whoever sleeps on it needs arm() again.
  virtual bool listen() { return false; }
  // For a thread that looks again and again: may miss what comes from those that were silent for long.
  virtual int glance() { return poll(); }
  // Misses nothing.
  virtual int look_everywhere() { return poll(); }
  // Asks for an event at the next completion. Poll again before sleeping: what came before the arming gives no event.
  virtual void arm() = 0;
  // Takes the events off the descriptor.
  virtual void acknowledge() = 0;
  // Readable after arm() when a completion came. Stays the same for ever.
  virtual int fd() const = 0;
};

// What the search for peers brings, on the service thread, without the engine's lock.
class Meeting {
 public:
  // Somebody at `from` dialled the point `cookie`, for a link of `lane`. The verdict decides; a welcome is followed by
  // linked().
  virtual wire::Greeting asked(Lane lane, uint64_t cookie, const Address& from, const wire::Hello& hello) = 0;
  virtual void linked(uint64_t cookie, bool dialled, const Address& peer, const wire::Greeting& greeting,
                      std::unique_ptr<Connection> connection, Completions& completions) = 0;
  // The handshake is over, either side may send.
  virtual void established(Connection& connection) = 0;
  virtual void dial_failed(uint64_t cookie, Reason reason, std::optional<wire::Greeting> greeting) = 0;
  virtual void disconnected(Connection& connection) = 0;
  // A point is no more: its device was removed.
  virtual void point_lost(uint64_t cookie, Reason reason) = 0;

 protected:
  ~Meeting() = default;
};

// Rendezvous points and dials. Service thread only; nothing blocks.
class Dialler {
 public:
  // Called once for each source of completions, when it is made.
  using Announce = std::function<void(Completions& completions)>;
  // Why a process of `user` on this host cannot be the other end of the flow `cookie`; nothing if it may be.
  using Doubt = std::function<std::optional<Reason>(uint64_t cookie, uid_t user)>;
  // Handles what completed by now. Under the engine's lock, not from within a call to a Sink.
  using Drain = std::function<void()>;

  virtual ~Dialler() = default;
  // Opens the point of a flow, by its ends here and there; `cookie` comes back with whoever dials it. A reason if it
  // fails: `port_taken` while another process, or another flow of this one, holds the name.
  virtual std::optional<Reason> open_point(uint64_t cookie, const Endpoint& local, const Endpoint& remote) = 0;
  virtual void close_point(uint64_t cookie) = 0;
  // Dials the point of the flow that goes from `from`, here, to `to`. linked() or dial_failed() follows, unless
  // cancelled. A reason if it cannot even begin.
  virtual std::optional<Reason> dial(uint64_t cookie, const Endpoint& from, const Endpoint& to,
                                     const wire::Greeting& greeting) = 0;
  virtual void cancel_dial(uint64_t cookie) = 0;
  // Takes a connection back to destroy it. Not from within a call to Meeting.
  virtual void bury(std::unique_ptr<Connection> connection) = 0;
  virtual int fd() const = 0;
  virtual void dispatch(Meeting& meeting) = 0;
};

}  // namespace rsock::fabric
