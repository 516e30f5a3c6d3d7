#include "core/engine/service/capturing.hpp"

#include <cstring>
#include <mutex>
#include <utility>

#include "core/base/log.hpp"

namespace rsock::engine {

// Under the engine's lock.
void Capturing::tell(Capture* capture) {
  for (const auto& [id, flow] : engine_.flows()) flow->tap(capture);
}

Control::Reply Capturing::begin(const wire::ControlRequest& request, uid_t user) {
  wire::ControlAnswer answer;
  answer.process = static_cast<uint32_t>(sys::process_id());
  answer.program = engine_.program.name;
  Control::Reply reply;
  const auto refuse = [&](std::string why) {
    answer.refused = true;
    answer.complaint = std::move(why);
    reply.packet = encode(answer);
    return std::move(reply);
  };
  if (user != 0) return refuse("only root may capture");
  {
    const std::lock_guard guard(engine_.lock);
    if (engine_.capture) return refuse("is captured already");
  }
  auto made = Capture::make(request.number, request.port, reply.descriptor);
  if (!made) return refuse(fmt::format("has no memory for that: {}", std::strerror(made.error())));
  {
    const std::lock_guard guard(engine_.lock);
    engine_.capture = std::move(*made);
    tell(engine_.capture.get());
  }
  log::info("a capture begins (port {})", request.port);
  reply.kept = std::shared_ptr<void>(this, [](void* self) { static_cast<Capturing*>(self)->end(); });
  reply.packet = encode(answer);
  return reply;
}

void Capturing::end() {
  std::unique_ptr<Capture> ended;
  {
    const std::lock_guard guard(engine_.lock);
    tell(nullptr);
    ended = std::move(engine_.capture);
  }
  log::info("the capture ends");
}

}  // namespace rsock::engine
