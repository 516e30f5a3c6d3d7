#include "core/wire/greeting.hpp"

namespace rsock::wire {

GreetingBytes encode(const Greeting& greeting) {
  GreetingBytes bytes{};
  Writer writer(bytes);
  writer.number(kMagic);
  writer.number(greeting.version);
  writer.number(static_cast<uint16_t>(greeting.verdict));
  writer.number(greeting.engine);
  writer.number(greeting.receives);
  writer.number(uint32_t{0});
  return bytes;
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
  // What another version means by it is not ours to say.
  const bool credits = greeting.version == kVersion && greeting.verdict == Verdict::welcome;
  if (credits && (greeting.receives < kFewestReceives || greeting.receives > kMostReceives)) return {};
  return greeting;
}

HelloBytes encode(const Hello& hello) {
  HelloBytes bytes{};
  Writer writer(bytes);
  writer.raw(encode(hello.greeting));
  put(writer, hello.acceptor);
  return bytes;
}

std::optional<Hello> decode_hello(std::span<const uint8_t> bytes) {
  const auto greeting = decode_greeting(bytes);
  if (!greeting) return {};
  Hello hello{*greeting, {}};
  Reader reader(bytes.subspan(kGreetingSize));
  if (!get(reader, hello.acceptor)) return {};
  return hello;
}

}  // namespace rsock::wire
