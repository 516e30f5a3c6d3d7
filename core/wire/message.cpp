#include "core/wire/message.hpp"

#include <bit>

#include "core/wire/bytes.hpp"
#include "core/wire/endpoint.hpp"

namespace rsock::wire {
namespace {

// Each body is listed once, as its fields in order; writing and reading both follow that list.
template <class Visit>
// clang-format off
void fields(auto& body, Visit visit)
  requires requires { body.to; } || requires { body.from; } || requires { body.packed; } || requires { body.proof; } ||
           std::is_same_v<std::remove_cvref_t<decltype(body)>, Credit>
{
  // clang-format on
  using Kind = std::remove_cvref_t<decltype(body)>;
  if constexpr (std::is_same_v<Kind, Key>) {
    visit(body.key), visit(body.proof);
  } else if constexpr (std::is_same_v<Kind, Claim>) {
    visit(body.from), visit(body.connector), visit(body.acceptor), visit(body.ring), visit(body.nonce);
  } else if constexpr (std::is_same_v<Kind, Accept>) {
    visit(body.to), visit(body.from), visit(body.ring), visit(body.nonce), visit(body.offset);
  } else if constexpr (std::is_same_v<Kind, Confirm>) {
    visit(body.to), visit(body.offset);
  } else if constexpr (std::is_same_v<Kind, Witness>) {
    visit(body.to), visit(body.code);
  } else if constexpr (std::is_same_v<Kind, Decline>) {
    visit(body.to), visit(body.cause);
  } else if constexpr (std::is_same_v<Kind, Window>) {
    visit(body.to), visit(body.consumed);
  } else if constexpr (std::is_same_v<Kind, Grow>) {
    visit(body.to), visit(body.ring);
  } else if constexpr (std::is_same_v<Kind, Fin>) {
    visit(body.to), visit(body.total), visit(body.closed);
  } else if constexpr (std::is_same_v<Kind, Retire>) {
    visit(body.to), visit(body.finished), visit(body.begun);
  } else if constexpr (std::is_same_v<Kind, Pieces>) {
    visit(body);
  } else if constexpr (!std::is_same_v<Kind, Credit>) {
    visit(body.to);
  }
}

struct Put {
  Writer& writer;
  template <class T>
  requires std::is_unsigned_v<T>
  void operator()(T value) const {
    if constexpr (std::is_same_v<T, bool>)
      writer.number(static_cast<uint8_t>(value));
    else
      writer.number(value);
  }
  template <size_t N>
  void operator()(const std::array<uint8_t, N>& bytes) const {
    writer.raw(bytes);
  }
  void operator()(DeclineCause cause) const { writer.number(static_cast<uint8_t>(cause)); }
  void operator()(const RingPlace& ring) const {
    writer.number(ring.address);
    writer.number(ring.key);
    writer.number(ring.size);
  }
  void operator()(const Pieces& pieces) const { writer.raw(pieces.packed); }
  void operator()(const Endpoint& endpoint) const { wire::put(writer, endpoint); }
};

struct Get {
  Reader& reader;
  bool& valid;
  template <class T>
  requires std::is_unsigned_v<T>
  void operator()(T& value) const {
    if constexpr (std::is_same_v<T, bool>)
      flag(value);
    else
      value = reader.number<T>();
    if constexpr (std::is_same_v<T, Slot>)
      if (value >= kSlotLimit) valid = false;
  }
  template <size_t N>
  void operator()(std::array<uint8_t, N>& bytes) const {
    reader.raw(bytes);
  }
  void operator()(DeclineCause& cause) const {
    const auto number = reader.number<uint8_t>();
    if (number > static_cast<uint8_t>(DeclineCause::unwilling)) valid = false;
    cause = static_cast<DeclineCause>(number);
  }
  void operator()(RingPlace& ring) const {
    ring.address = reader.number<uint64_t>();
    ring.key = reader.number<uint32_t>();
    ring.size = reader.number<uint32_t>();
    constexpr uint32_t kSmallest = 4096, kLargest = 1u << 26;
    if (!std::has_single_bit(ring.size) || ring.size < kSmallest || ring.size > kLargest) valid = false;
  }
  void operator()(Endpoint& endpoint) const {
    if (!wire::get(reader, endpoint)) valid = false;
  }

  void operator()(Pieces& pieces) const {
    pieces.packed = reader.take(reader.left());
    if (pieces.packed.empty()) valid = false;
    Reader each(pieces.packed);
    while (each.left() > 0) {
      const auto slot = each.number<Slot>();
      const auto length = each.number<uint16_t>();
      if (slot >= kSlotLimit || length == 0 || each.take(length).size() != length) return void(valid = false);
    }
  }

 private:
  void flag(bool& value) const {
    const auto number = reader.number<uint8_t>();
    if (number > 1) valid = false;
    value = number == 1;
  }
};

template <size_t... Kinds>
std::optional<Body> make_body(uint8_t kind, std::index_sequence<Kinds...>) {
  std::optional<Body> body;
  ((kind == Kinds ? void(body.emplace(std::in_place_index<Kinds>)) : void()), ...);
  return body;
}

}  // namespace

MessageBytes encode(const Message& message) {
  MessageBytes out;
  Writer writer(out.bytes);
  writer.number(static_cast<uint8_t>(message.body.index()));
  writer.raw(std::array<uint8_t, 3>{});
  writer.number(message.returned);
  std::visit([&](const auto& body) { fields(body, Put{writer}); }, message.body);
  out.size = writer.size();
  return out;
}

std::optional<Message> decode_message(std::span<const uint8_t> bytes) {
  if (bytes.size() > kMessageMax) return {};
  Reader reader(bytes);
  auto body = make_body(reader.number<uint8_t>(), std::make_index_sequence<std::variant_size_v<Body>>());
  if (!body) return {};
  std::array<uint8_t, 3> zero{};
  reader.raw(zero);
  bool valid = zero == std::array<uint8_t, 3>{};
  Message message;
  message.returned = reader.number<uint32_t>();
  std::visit([&](auto& fields_of) { fields(fields_of, Get{reader, valid}); }, *body);
  if (!valid || !reader.complete()) return {};
  message.body = *body;
  return message;
}

std::optional<Piece> next_piece(Pieces& pieces) {
  if (pieces.packed.empty()) return {};
  Reader reader(pieces.packed);
  Piece piece;
  piece.to = reader.number<Slot>();
  piece.bytes = reader.take(reader.number<uint16_t>());
  pieces.packed = pieces.packed.last(reader.left());
  return piece;
}

void Packer::add(Slot to, std::span<const uint8_t> bytes) {
  Writer writer(std::span<uint8_t>(bytes_).subspan(size_));
  writer.number(to);
  writer.number(static_cast<uint16_t>(bytes.size()));
  writer.raw(bytes);
  size_ += writer.size();
}

}  // namespace rsock::wire
