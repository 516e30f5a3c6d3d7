#include "tests/fabric/device/device.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace fabric {

Device::Device(Descriptor socket, Chance& chance)
    : socket_(std::move(socket)), chance_(chance), wire_(loop_, chance), manager_(loop_, wire_) {}

void Device::run() {
  loop_.watch(socket_.get(), [this] { take_line(); });
  loop_.watch(STDIN_FILENO, [this] { read_orders(); });
  loop_.run();
}

void Device::take_line() {
  Descriptor fd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) return;
  const auto number = ++last_;
  auto& line = lines_[number];
  line = std::make_shared<Line>(
      loop_, std::move(fd),
      [this](Line& of, const Request& request, Descriptors descriptors, Answer& answer) {
        return open(of, request, std::move(descriptors), answer);
      },
      [this](const Request& request) {
        return makes(request.verb) || destroys(request.verb) ? chance_.slowness() : Duration::zero();
      });
  line->serve([this, number] {
    contexts_.erase(lines_[number].get());
    lines_.erase(number);
  });
}

std::unique_ptr<Station> Device::open(Line& line, const Request& request, Descriptors descriptors, Answer& answer) {
  if (request.verb == Verb::open_channel) return std::make_unique<Channel>(manager_, line);
  answer.error = request.verb != Verb::open_context || descriptors.size() < 2 ? EINVAL
                 : !manager_.present()                                        ? ENODEV
                 : chance_.refuses()                                          ? chance_.refusal()
                                                                              : 0;
  if (answer.error) return nullptr;
  if (descriptors.size() == 2) {
    const auto memory = "/proc/" + std::to_string(line.process()) + "/mem";
    descriptors.emplace_back(::open(memory.c_str(), O_RDWR | O_CLOEXEC));
  }
  auto context = std::make_unique<Context>(loop_, wire_, std::move(descriptors[2]), std::move(descriptors[1]));
  contexts_[&line] = context.get();
  return context;
}

void Device::read_orders() {
  char piece[256];
  const auto got = read(STDIN_FILENO, piece, sizeof piece);
  if (got <= 0) std::exit(0);
  orders_.append(piece, static_cast<size_t>(got));
  for (size_t end; (end = orders_.find('\n')) != std::string::npos; orders_.erase(0, end + 1)) {
    std::puts(obey(orders_.substr(0, end)).c_str());
    std::fflush(stdout);
  }
}

std::vector<Context*> Device::contexts_of(pid_t process) const {
  std::vector<Context*> found;
  for (const auto& [line, context] : contexts_)
    if (line->process() == process) found.push_back(context);
  return found;
}

std::string Device::obey(const std::string& order) {
  std::istringstream words(order);
  std::string what;
  pid_t process = 0;
  int64_t ms = 0;
  words >> what >> process >> ms;
  size_t count = 0;
  if (what == "break") {
    for (auto* context : contexts_of(process)) count += context->break_all();
  } else if (what == "mute") {
    for (auto* context : contexts_of(process)) count += context->mute(milliseconds(ms));
  } else if (what == "remove") {
    manager_.remove();
  } else if (what == "add") {
    manager_.add();
  } else if (what == "users") {
    count = contexts_.size();
  } else {
    return "what?";
  }
  return std::to_string(count);
}

}  // namespace fabric
