#include "core/wire/control.hpp"

#include <algorithm>
#include <limits>

#include "core/wire/bytes.hpp"

namespace rsock::wire {
namespace {

constexpr size_t kLongestComplaint = 8192;

void begin(Writer& writer) {
  writer.number(kControlMagic);
  writer.number(kControlVersion);
}

bool begins(Reader& reader) {
  return reader.number<uint32_t>() == kControlMagic && reader.number<uint16_t>() == kControlVersion;
}

template <class Length>
void put(Writer& writer, std::string_view text, size_t most = std::numeric_limits<Length>::max()) {
  text = text.substr(0, most);
  writer.number(static_cast<Length>(text.size()));
  writer.raw({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

template <class Length>
std::string text(Reader& reader) {
  const auto bytes = reader.take(reader.number<Length>());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::vector<uint8_t> encode(const ControlRequest& request) {
  const bool numbered = has_number(request.order);
  std::vector<uint8_t> bytes(numbered ? kControlRequestMost : kControlRequestSize);
  Writer writer(bytes);
  begin(writer);
  writer.number(static_cast<uint8_t>(request.order));
  writer.number(uint8_t{0});
  writer.number(request.port);
  if (numbered) writer.number(request.number);
  return bytes;
}

std::optional<ControlRequest> decode_control_request(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  if (!begins(reader)) return {};
  const auto order = static_cast<Order>(reader.number<uint8_t>());
  const auto zero = reader.number<uint8_t>();
  const auto port = reader.number<uint16_t>();
  const auto number = has_number(order) ? reader.number<uint64_t>() : 0;
  if (!reader.complete() || zero != 0 || order > Order::capture) return {};
  return ControlRequest{order, port, number};
}

std::vector<uint8_t> encode(const ControlAnswer& answer) {
  std::vector<uint8_t> bytes(kControlAnswerMost + 256 * kControlReasonsMost);
  Writer writer(bytes);
  begin(writer);
  writer.number(static_cast<uint8_t>(answer.refused));
  writer.number(uint8_t{0});
  writer.number(answer.process);
  writer.number(answer.moved);
  for (const auto count :
       {answer.flows.tcp, answer.flows.rdma, answer.flows.shm, answer.flows.entering, answer.flows.leaving})
    writer.number(count);
  const auto reasons = std::min(answer.stay.size(), kControlReasonsMost);
  writer.number(static_cast<uint16_t>(reasons));
  for (size_t i = 0; i < reasons; ++i) {
    put<uint8_t>(writer, answer.stay[i].reason, 32);
    writer.number(answer.stay[i].flows);
  }
  put<uint8_t>(writer, answer.program);
  put<uint16_t>(writer, answer.complaint, kLongestComplaint);
  bytes.resize(writer.size());
  return bytes;
}

std::optional<ControlAnswer> decode_control_answer(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  if (!begins(reader)) return {};
  ControlAnswer answer;
  const auto refused = reader.number<uint8_t>();
  const auto zero = reader.number<uint8_t>();
  answer.refused = refused == 1;
  answer.process = reader.number<uint32_t>();
  answer.moved = reader.number<uint32_t>();
  auto& flows = answer.flows;
  for (auto* count : {&flows.tcp, &flows.rdma, &flows.shm, &flows.entering, &flows.leaving})
    *count = reader.number<uint32_t>();
  const auto reasons = reader.number<uint16_t>();
  if (!reader.good() || refused > 1 || zero != 0 || reasons > kControlReasonsMost) return {};
  for (size_t i = 0; i < reasons; ++i) {
    auto reason = text<uint8_t>(reader);
    answer.stay.push_back({std::move(reason), reader.number<uint32_t>()});
  }
  answer.program = text<uint8_t>(reader);
  answer.complaint = text<uint16_t>(reader);
  if (!reader.complete()) return {};
  return answer;
}

std::vector<uint8_t> encode(const ControlPage& page) {
  std::vector<uint8_t> bytes(kControlAnswerMost);
  Writer writer(bytes);
  begin(writer);
  writer.number(uint16_t{0});
  writer.number(page.next);
  put<uint16_t>(writer, page.text, kControlTextMost);
  bytes.resize(writer.size());
  return bytes;
}

std::optional<ControlPage> decode_control_page(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  if (!begins(reader)) return {};
  const auto zero = reader.number<uint16_t>();
  const auto next = reader.number<uint64_t>();
  auto page = ControlPage{next, text<uint16_t>(reader)};
  if (!reader.complete() || zero != 0) return {};
  return page;
}

}  // namespace rsock::wire
