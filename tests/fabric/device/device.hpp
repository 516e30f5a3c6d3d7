#pragma once
// The device: takes lines, and does what its owner orders.

#include <map>
#include <memory>
#include <string>

#include "tests/fabric/device/cm.hpp"
#include "tests/fabric/device/context.hpp"

namespace fabric {

class Device {
 public:
  // `socket` listens for lines.
  Device(Descriptor socket, Chance& chance);
  // Orders come from standard input, a line each, and are answered on standard output by a line. It ends with
  // standard input.
  //
  //   break PID       breaks all queue pairs of a process; answers how many
  //   mute PID MS     nothing reaches the queue pairs of a process, nor leaves them; answers how many
  //   remove          the device goes: whoever uses it is told, and lets go of it; answers at once
  //   users           answers how many processes have it open still
  //   add             there is a device again
  [[noreturn]] void run();

 private:
  void take_line();
  std::unique_ptr<Station> open(Line& line, const Request& request, Descriptors descriptors, Answer& answer);
  void read_orders();
  std::string obey(const std::string& order);
  std::vector<Context*> contexts_of(pid_t process) const;

  Loop loop_;
  const Descriptor socket_;
  Chance& chance_;
  Wire wire_;
  Manager manager_;
  std::string orders_;  // as much as was read of the next
  uint64_t last_ = 0;
  std::map<Line*, Context*> contexts_;
  std::map<uint64_t, std::shared_ptr<Line>> lines_;
};

}  // namespace fabric
