#pragma once
// The device's end of a line. What the line stands for, a channel or a context, comes with its first request
// and goes with it.

#include <deque>
#include <memory>
#include <vector>

#include "tests/fabric/device/loop.hpp"
#include "tests/fabric/wire.hpp"

namespace fabric {

using Descriptors = std::vector<Descriptor>;

// What a line stands for. Its destructor undoes all that was asked for on the line.
class Station {
 public:
  virtual ~Station() = default;
  virtual Answer answer(const Request& request, Descriptors descriptors) = 0;
  virtual void bell() {}
  // Only as the user that opened the line: the connection manager of the kernel takes nothing from a process
  // that has become another.
  virtual bool wants_its_opener() const { return false; }
};

class Line : public std::enable_shared_from_this<Line> {
 public:
  // The station for a first request; nullptr, and an errno in the answer, if there is none.
  using Open = std::function<std::unique_ptr<Station>(Line& line, const Request& request, Descriptors descriptors,
                                                      Answer& answer)>;
  // How long an answer takes.
  using Pause = std::function<Duration(const Request& request)>;

  Line(Loop& loop, Descriptor socket, Open open, Pause pause);
  ~Line();
  // From now on it serves; `ended` is called once, and may destroy it.
  void serve(Loop::Do ended);
  void send(const CmEvent& event);
  pid_t process() const;  // that has opened it

 private:
  void receive();
  bool receive_one();
  void handle(const Request& request, Descriptors descriptors, uid_t user);
  void say(const Answer& answer, uint32_t number);
  void send_pending();

  Loop& loop_;
  const Descriptor socket_;
  const Open open_;
  const Pause pause_;
  Loop::Do ended_;
  Mapping page_;
  uid_t opener_ = 0;
  std::deque<CmEvent> pending_;
  std::unique_ptr<Station> station_;  // goes first
};

}  // namespace fabric
