#pragma once
// The connection manager: identifiers, the names of listeners, and how two identifiers become a connection.
//
//   active   create, resolve_address, resolve_route, connect -> (response) -> establish
//   passive  create, bind, listen -> (request: a new identifier) -> accept or reject -> (established)
//
// An event is told to the channel of the identifier that it is for.

#include <rdma/rdma_cma.h>

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "tests/fabric/device/line.hpp"
#include "tests/fabric/device/queue_pair.hpp"

namespace fabric {

class Channel;

struct Identifier {
  enum class State { idle, bound, listens, connecting, requested, accepted, responded, connected, ended };

  uint64_t number = 0;
  Channel* channel = nullptr;
  uint64_t network = 0, space = 0;
  State state = State::idle;
  sockaddr_storage local{}, remote{};
  bool remote_is_near = true;
  uint32_t queue_pair = 0;
  uint64_t peer = 0;      // identifier
  uint64_t listener = 0;  // whose room it takes until it is accepted
  uint64_t room = 0;      // of a listener, for requests that are not accepted
};

// All identifiers of all processes.
class Manager {
 public:
  Manager(Loop& loop, Wire& wire) : loop_(loop), wire_(wire) {}
  Chance& chance() const { return wire_.chance; }

  Identifier& create(Channel& channel, uint64_t network, uint64_t space);
  Identifier* find(uint64_t number);
  void destroy(uint64_t number);
  // An errno, or 0.
  int bind(Identifier& id, sockaddr_storage address);
  int listen(Identifier& id, uint64_t backlog);
  int resolve_address(Identifier& id, const Request& request);
  int resolve_route(Identifier& id);
  int connect(Identifier& id, uint32_t queue_pair, const PrivateData& data);
  int establish(Identifier& id);
  int accept(Identifier& id, uint32_t queue_pair, const PrivateData& data);
  int reject(Identifier& id, const PrivateData& data);
  int disconnect(Identifier& id);
  // The device goes, and comes.
  void remove();
  void add() { present_ = true; }
  bool present() const { return present_; }

 private:
  using Name = std::tuple<uint64_t, uint64_t, uint16_t>;  // network, port space, port

  void tell(const Identifier& id, rdma_cm_event_type type, int status = 0, const PrivateData& data = {},
            size_t size = 0);
  Identifier* listener_at(const Identifier& from);
  bool is_taken(const Identifier& by, const sockaddr_storage& address) const;
  Identifier* peer_of(const Identifier& id);
  void leave(Identifier& id);
  void give_room(Identifier& id);
  void refuse(Identifier& id, int status, const PrivateData& data = {});

  Loop& loop_;
  Wire& wire_;
  bool present_ = true;
  uint64_t last_ = 0;
  uint16_t last_port_ = 0;
  std::map<uint64_t, Identifier> all_;
  std::multimap<Name, uint64_t> names_;
};

// An event channel of a process, with the identifiers that were made on it.
class Channel : public Station {
 public:
  Channel(Manager& manager, Line& line) : manager_(manager), line_(line) {}
  ~Channel() override;
  Answer answer(const Request& request, Descriptors descriptors) override;
  bool wants_its_opener() const override { return true; }
  void send(const CmEvent& event) { line_.send(event); }
  void adopt(uint64_t number) { identifiers_.push_back(number); }

 private:
  Manager& manager_;
  Line& line_;
  std::vector<uint64_t> identifiers_;
};

}  // namespace fabric
