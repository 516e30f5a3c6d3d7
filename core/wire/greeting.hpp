#pragma once
// What two processes tell each other in the private data of the dial: who they are and what they speak. 24 bytes, the
// same in request, answer and refusal. In a request, the dialler's end of the flow that it looks for follows: the point
// that it dials may be another flow's; in an answer or a refusal, the key of who was dialled, for which a request has
// no room beside that. Whatever comes behind is ignored, so that later versions can add to it.
//
//   0   4   magic "rsck"
//   4   2   version: the newest that the sender speaks
//   6   2   verdict: 0 in a request or an answer, else why the dial is refused
//   8   8   engine: random number that names the sender's engine
//  16   4   receives: how many receive work requests the sender has posted, the first credits; if welcome, 32 to 2^20
//  20   2   oldest: the oldest version that it speaks, 0 if there is but one
//  22   2   zero
//  24  19   a request: the accepting end
//  24  32   an answer: the public key of the link, zero if the dial is refused

#include <cstdint>
#include <optional>
#include <span>

#include "core/wire/bytes.hpp"
#include "core/wire/endpoint.hpp"
#include "core/wire/mark.hpp"

namespace rsock::wire {

inline constexpr uint32_t kMagic = 0x7273636b;
#ifdef RSOCK_OTHER_VERSION  // a library that the end-to-end tests let this one meet
inline constexpr uint16_t kVersion = RSOCK_OTHER_VERSION, kOldestVersion = RSOCK_OTHER_OLDEST;
#else
inline constexpr uint16_t kVersion = 2, kOldestVersion = 2;
#endif
inline constexpr size_t kGreetingSize = 24;  // of what all of them have
// With fewer credits a link cannot carry data; more are not to be had of any device.
inline constexpr uint32_t kFewestReceives = 32, kMostReceives = 1 << 20;

enum class Verdict : uint16_t { welcome = 0, version = 1, linked = 2, resources = 3, stranger = 4 };

struct Greeting {
  uint16_t version = kVersion;
  Verdict verdict = Verdict::welcome;
  uint64_t engine = 0;
  uint32_t receives = 0;
  PublicKey key{};  // of an answer
  uint16_t oldest = kOldestVersion;

  // The version that the sender and this library speak with each other: the newest that both know. Each end finds the
  // same. Nothing: there is none.
  std::optional<uint16_t> common() const;
};

// An answer, or a refusal.
inline constexpr size_t kAnswerSize = kGreetingSize + sizeof(PublicKey);
using AnswerBytes = std::array<uint8_t, kAnswerSize>;
AnswerBytes encode(const Greeting& greeting);
// Nothing if it is not one of ours. The version is the caller's to judge.
std::optional<Greeting> decode_answer(std::span<const uint8_t> bytes);

// A request.
struct Hello {
  Greeting greeting;
  Endpoint acceptor;
};
inline constexpr size_t kHelloSize = kGreetingSize + kEndpointSize;

using HelloBytes = std::array<uint8_t, kHelloSize>;
HelloBytes encode(const Hello& hello);
std::optional<Hello> decode_hello(std::span<const uint8_t> bytes);

}  // namespace rsock::wire
