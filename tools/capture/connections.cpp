#include "tools/capture/connections.hpp"

namespace rsock::tools {
namespace {

constexpr std::uint64_t kKept =
    10'000'000'000;                  // nanoseconds: what the other end still tells of a connection that has ended
constexpr std::size_t kLook = 1000;  // ended ones
constexpr std::size_t kMostKnown = 1 << 20;  // whatever processes tell

Endpoint endpoint(const std::array<std::uint8_t, 16>& address, std::uint16_t port, bool v6) {
  Endpoint made;
  made.address.bytes = address;
  made.address.v6 = v6;
  made.port = port;
  return made;
}

}  // namespace

void Connections::take(std::uint32_t process, const wire::CaptureRecord& record, std::span<const std::byte> bytes) {
  const bool accepted = record.accepted != 0, outgoing = record.outgoing != 0,
             end = record.kind == wire::CaptureKind::end;
  auto ends = Ends(endpoint(record.local, record.local_port, record.v6 != 0),
                   endpoint(record.remote, record.remote_port, record.v6 != 0));
  if (accepted) std::swap(ends.first, ends.second);
  const auto from = accepted == outgoing ? From::acceptor : From::connector;
  const auto emit = [&](From sender, auto head, auto data) {
    emit_(process, record.time, (sender == From::acceptor) == accepted, head, data);
  };

  auto found = known_.find(ends);
  if (found != known_.end()) {
    const auto& known = found->second;
    const bool same = known.process == process && known.flow == record.flow;
    if (!same && known.accepted != accepted) return;  // the other end
    if (same && known.ended) return;
    if (!same) {
      // Another connection between the same ends.
      ended_ -= known.ended ? 1 : 0;
      known_.erase(found), found = known_.end();
    }
  }
  if (found == known_.end()) {
    if (end) return;
    if (known_.size() >= kMostKnown) known_.clear(), ended_ = 0;
    found =
        known_.emplace(ends, Connection{process, record.flow, accepted, false, 0, Segments(ends.first, ends.second)})
            .first;
    ++count_;
    found->second.segments.begin(emit);
  }
  auto& connection = found->second;
  connection.last = record.time;
  if (!end) {
    bytes_ += bytes.size();
    return connection.segments.data(from, record.position, bytes, emit);
  }
  connection.segments.end(from, emit);
  connection.ended = true;
  if (++ended_ >= kLook) forget_ended(record.time);
}

void Connections::forget_ended(std::uint64_t time) {
  std::erase_if(known_, [&](const auto& one) { return one.second.ended && one.second.last + kKept < time; });
  ended_ = 0;
}

}  // namespace rsock::tools
