#pragma once
// The search for peers on this host. A rendezvous point is an abstract unix socket named by both ends of the flow, so
// that processes meet that share a network namespace, and only those, and no two flows want one name. Both ends send
// one packet each: a greeting with one descriptor, their segment. The socket then stays open as the bell of the link,
// and its end says that the peer has gone.
//
//   dialler: connect, hello{greeting, its end of the flow} + segment     point: asked; answer{greeting} + segment
//
// Neither end gives anything to a process that the engine doubts (Doubt), nor reads what it says. Whoever comes may
// send any descriptor: see ExposedFd. Service thread only; the engine's lock is taken where channels come and go.

#include <array>
#include <map>
#include <vector>

#include "core/base/lock.hpp"
#include "core/fabric/fabric.hpp"
#include "core/fabric/shm/channel.hpp"

namespace rsock::fabric::shm {

class SocketDialler final : public Dialler {
 public:
  // `rings`: the most memory for rings of one link. A reason if a descriptor is lacking.
  static std::unique_ptr<SocketDialler> make(Lock& lock, PinnedBudget& budget, uint64_t rings, const Announce& announce,
                                             Doubt doubt, Reason& why);

  std::optional<Reason> open_point(uint64_t cookie, const Endpoint& local, const Endpoint& remote) override;
  void close_point(uint64_t cookie) override;
  std::optional<Reason> dial(uint64_t cookie, const Endpoint& from, const Endpoint& to,
                             const wire::Greeting& greeting) override;
  void cancel_dial(uint64_t cookie) override;
  void bury(std::unique_ptr<Connection> connection) override;
  int fd() const override { return epoll_.get(); }
  void dispatch(Meeting& meeting) override;

 private:
  struct Packet;
  // What a socket is: a point, somebody who came to one and has said nothing yet, a dial without an answer, or a link.
  enum class Role { point, visitor, dial, link };
  struct Socket {
    Role role;
    uint64_t cookie;
    ExposedFd fd;                // a link's is its channel's
    uid_t user = 0;              // of the process there, but for a point
    Address peer;                // of a dial
    Segment segment;             // ours, of a dial
    Channel* channel = nullptr;  // of a link; the engine's
  };
  using Sockets = std::map<uint64_t, Socket>;

  SocketDialler(Lock& lock, PinnedBudget& budget, uint64_t rings, Doubt doubt, UniqueFd epoll, UniqueFd bells);
  Socket* add(Role role, uint64_t cookie, ExposedFd fd);
  void drop(Role role, uint64_t cookie);
  void came(uint64_t point);
  bool welcome(uint64_t point);
  void make_room(uint64_t cookie);
  void hello(Meeting& meeting, uint64_t visitor);
  void answer(Meeting& meeting, uint64_t dial);
  // The socket of a visitor or a dial becomes the bell of a channel. nullptr if the kernel has no room to watch it.
  std::unique_ptr<Channel> make_channel(uint64_t number, Socket& socket, Segment own, Segment theirs);
  void discard(std::unique_ptr<Channel> channel);
  void join(Meeting& meeting, Sockets::node_type socket, std::unique_ptr<Channel> channel, bool dialled,
            const Address& peer, const wire::Greeting& greeting);
  // `segment`: -1 to pass none, in a refusal.
  static bool send(int socket, std::span<const uint8_t> bytes, int segment);

  Lock& lock_;
  PinnedBudget& budget_;
  const uint64_t rings_;
  const Doubt doubt_;
  const UniqueFd epoll_;
  Hub hub_;
  UniqueFd
      spare_;  // for the next dial; it stays while nobody answers, as plain peers do not: no number is taken for them
  Sockets sockets_;  // by the number that is their mark in epoll_
  uint64_t next_ = 1;
};

}  // namespace rsock::fabric::shm
