#include "core/wire/greeting.hpp"

#include <algorithm>

namespace rsock::wire {
namespace {

void put(Writer& writer, const Greeting& greeting) {
  writer.number(kMagic);
  writer.number(greeting.version);
  writer.number(static_cast<uint16_t>(greeting.verdict));
  writer.number(greeting.engine);
  writer.number(greeting.receives);
  writer.number(greeting.oldest);
  writer.number(uint16_t{0});
}

std::optional<Greeting> decode_greeting(std::span<const uint8_t> bytes) {
  if (bytes.size() < kGreetingSize) return {};
  Reader reader(bytes.first(kGreetingSize));
  if (reader.number<uint32_t>() != kMagic) return {};
  Greeting greeting;
  greeting.version = reader.number<uint16_t>();
  const auto verdict = reader.number<uint16_t>();
  if (verdict > static_cast<uint16_t>(Verdict::stranger)) return {};
  greeting.verdict = static_cast<Verdict>(verdict);
  greeting.engine = reader.number<uint64_t>();
  greeting.receives = reader.number<uint32_t>();
  const auto oldest = reader.number<uint16_t>();
  greeting.oldest = oldest == 0 ? greeting.version : oldest;
  if (greeting.oldest > greeting.version) return {};
  // What another version means by it is not ours to say.
  const bool credits = greeting.common() && greeting.verdict == Verdict::welcome;
  if (credits && (greeting.receives < kFewestReceives || greeting.receives > kMostReceives)) return {};
  return greeting;
}

}  // namespace

std::optional<uint16_t> Greeting::common() const {
  const auto newest = std::min(version, kVersion);
  return newest >= std::max(oldest, kOldestVersion) ? std::optional(newest) : std::nullopt;
}

AnswerBytes encode(const Greeting& greeting) {
  AnswerBytes bytes{};
  Writer writer(bytes);
  put(writer, greeting);
  writer.raw(greeting.key);
  return bytes;
}

std::optional<Greeting> decode_answer(std::span<const uint8_t> bytes) {
  auto greeting = decode_greeting(bytes);
  if (!greeting || !greeting->common()) return greeting;
  Reader reader(bytes.subspan(kGreetingSize));
  reader.raw(greeting->key);
  return reader.good() ? greeting : std::nullopt;
}

HelloBytes encode(const Hello& hello) {
  HelloBytes bytes{};
  Writer writer(bytes);
  put(writer, hello.greeting);
  put(writer, hello.acceptor);
  return bytes;
}

std::optional<Hello> decode_hello(std::span<const uint8_t> bytes) {
  const auto greeting = decode_greeting(bytes);
  if (!greeting) return {};
  // A request that refuses: its number of receives was not looked at.
  if (greeting->common() && greeting->verdict != Verdict::welcome) return {};
  Hello hello{*greeting, {}};
  Reader reader(bytes.subspan(kGreetingSize));
  if (!get(reader, hello.acceptor)) return {};
  return hello;
}

}  // namespace rsock::wire
