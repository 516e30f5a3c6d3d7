// What a process hands to `rsock capture`: the ring of records, what a flow puts into it, and who may have
// it.

#include "core/wire/capture.hpp"

#include <cstring>
#include <random>

#include "core/engine/service/capturing.hpp"
#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;
using wire::CaptureReader, wire::CaptureRecord, wire::CaptureWriter, wire::CaptureKind;
using Next = wire::CaptureReader::Next;

namespace {

constexpr size_t kRing = 4096;

// Memory as two processes map it, and both ends.
struct Memory {
  explicit Memory(size_t ring = kRing) : bytes(wire::kCaptureRing + ring) {}
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  struct Bytes {
    explicit Bytes(size_t size) : lines(size / 64), span(lines[0].bytes, size) {}
    std::vector<Line> lines;
    std::span<std::byte> span;
  } bytes;
  CaptureWriter writer{bytes.span};
  CaptureReader reader{bytes.span};

  wire::CaptureHead& head() { return *reinterpret_cast<wire::CaptureHead*>(bytes.span.data()); }
  std::byte* ring() { return bytes.span.data() + wire::kCaptureRing; }
  bool put(std::string_view text, uint64_t position = 0) {
    CaptureRecord record;
    record.bytes = static_cast<uint32_t>(text.size());
    record.position = position;
    auto* to = writer.begin(record);
    if (!to) return false;
    std::memcpy(to, text.data(), text.size());
    writer.commit();
    return true;
  }
  std::string take() {
    CaptureRecord record;
    std::span<const std::byte> taken;
    switch (reader.take(record, taken)) {
      case Next::nothing: return kNothing;
      case Next::fault: return "fault";
      case Next::record: break;
    }
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
};

}  // namespace

TEST_CASE("records come as they were put, however they lie in the ring", "[capture]") {
  Memory memory;
  std::mt19937 random(7);
  std::deque<std::string> there;
  uint64_t put = 0, lost = 0, lost_bytes = 0;
  while (put < 20000) {
    const std::string text(random() % 900, static_cast<char>('a' + random() % 26));
    if (memory.put(text)) {
      there.push_back(text), ++put;
    } else {
      ++lost, lost_bytes += text.size();
    }
    for (auto some = random() % 3; some > 0 && !there.empty(); --some) {
      REQUIRE(memory.take() == there.front());
      there.pop_front();
    }
    if (random() % 2) memory.reader.done();
  }
  CHECK(lost > 100);
  CHECK(memory.reader.lost_records() == lost);
  CHECK(memory.reader.lost_bytes() == lost_bytes);
  for (const auto& text : there) CHECK(memory.take() == text);
  CHECK(memory.take() == kNothing);
}

TEST_CASE("a reader who lies of its place has less, and harms nobody", "[capture]") {
  Memory memory;
  while (memory.put("something")) {
  }
  for (const uint64_t read : {uint64_t{1} << 40, UINT64_MAX, uint64_t{kRing} + 1}) {
    memory.head().read = read;
    CHECK_FALSE(memory.put("something"));
  }
  memory.head().read = memory.head().written.load();
  CHECK(memory.put("something"));
}

TEST_CASE("a writer who lies is found out", "[capture]") {
  const auto with = [](auto&& spoil) {
    Memory memory;
    REQUIRE(memory.put("twelve bytes"));
    spoil(memory);
    return memory.take();
  };
  const auto word = [](Memory& memory, size_t at, uint32_t value) {
    std::memcpy(memory.ring() + at, &value, sizeof value);
  };
  CHECK(with([](auto&) {}) == "twelve bytes");
  CHECK(with([](auto& memory) { memory.head().written = kRing + 8; }) == "fault");
  CHECK(with([](auto& memory) { memory.head().written = UINT64_MAX; }) == "fault");
  CHECK(with([](auto& memory) { memory.head().written = 4; }) == "fault");
  CHECK(with([](auto& memory) { memory.head().written = 80; }) == "fault");
  for (const uint32_t length : {0u, 8u, 80u, 96u, 0xfffffff8u})
    CHECK(with([&](auto& memory) { word(memory, 0, length); }) == "fault");
  for (const uint32_t bytes : {0u, 17u, 33000u, 0x7fffffffu})
    CHECK(with([&](auto& memory) { word(memory, 4, bytes); }) == "fault");
  CHECK(with([&](auto& memory) { word(memory, 8, 2); }) == "fault");
  CHECK(with([&](auto& memory) { word(memory, 4, UINT32_MAX); }) ==
        "fault");  // the rest is skipped: 88 bytes are not the rest
  CHECK(with([&](auto& memory) {
          word(memory, 4, UINT32_MAX), word(memory, 0, kRing), memory.head().written = kRing;
        }) == kNothing);
}

TEST_CASE("a ring has the size that is asked for, within bounds", "[capture]") {
  UniqueFd memory;
  for (const uint64_t size :
       {uint64_t{0}, wire::kCaptureLeast / 2, wire::kCaptureLeast + 1, 3 * wire::kCaptureLeast, 2 * wire::kCaptureMost})
    CHECK(Capture::make(size, 0, memory).is(EINVAL));
  REQUIRE(Capture::make(wire::kCaptureLeast, 0, memory));
  CHECK(SealedMemory::open(memory.get(), 0, wire::kCaptureMost)->size() == wire::kCaptureRing + wire::kCaptureLeast);
}

namespace {

// A capture of one end, and what it has.
struct Captured {
  Captured(End& of, uint16_t port = 0) : end(of) {
    auto made = Capture::make(wire::kCaptureLeast, port, descriptor);
    REQUIRE(made);
    end.engine.capture = std::move(*made);
    memory = std::move(*SealedMemory::open(descriptor.get(), 0, wire::kCaptureMost));
    reader = std::make_unique<CaptureReader>(std::span(memory.base(), memory.size()));
    for (const auto& [id, flow] : end.engine.flows()) flow->tap(end.engine.capture.get());
  }
  // The streams, the first position of each, and whether they have ended.
  void look() {
    CaptureRecord record;
    std::span<const std::byte> bytes;
    while (reader->take(record, bytes) == Next::record) {
      if (record.kind == CaptureKind::end) {
        ended = true;
        continue;
      }
      CHECK(record.flow == end.flow->id());
      CHECK(record.accepted == (end.flow->role() == Role::acceptor));
      CHECK((record.local_port == end.flow->local().port && record.remote_port == end.flow->remote().port));
      CHECK((record.local == end.flow->local().address.bytes && record.v6 == 0));
      CHECK(record.time > 0);
      auto& stream = record.outgoing ? out : in;
      if (stream.text.empty()) stream.from = record.position;
      CHECK(record.position == stream.from + stream.text.size());
      stream.text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    reader->done();
  }

  End& end;
  UniqueFd descriptor;
  SealedMemory memory;
  std::unique_ptr<CaptureReader> reader;
  struct Stream {
    uint64_t from = 0;
    std::string text;
  } in, out;
  bool ended = false;
};

}  // namespace

TEST_CASE("what a flow writes into its lane and reads from it is captured, at either end", "[capture]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("by TCP"), true; });
  REQUIRE(ends.eventually([&] { return connector.read() == "by TCP"; }));
  ends.enter();
  REQUIRE(
      ends.eventually([&] { return acceptor.flow->stage() == Stage::lane && connector.flow->stage() == Stage::lane; }));
  ends.with_both([&] {
    Captured elsewhere(acceptor, 1);
    elsewhere.reader->open();
    acceptor.write("unseen"), ends.deliver_all();
    CHECK(connector.read() == "unseen");
    elsewhere.look();
    CHECK((elsewhere.out.text.empty() && elsewhere.in.text.empty()));
    acceptor.engine.capture.reset();
    Captured here(acceptor, acceptor.flow->remote().port), there(connector);
    here.reader->open(), there.reader->open();
    std::string sent, back;
    for (int turn = 0; turn < 200; ++turn) {
      const std::string text(static_cast<size_t>(turn * 53 % 3000 + 1), static_cast<char>('a' + turn % 26));
      acceptor.write(text), sent += text;
      ends.deliver_all();
      CHECK(connector.read(4000) == text);
      connector.write(text.substr(0, 7)), back += text.substr(0, 7);
      ends.deliver_all();
      CHECK(acceptor.read() == text.substr(0, 7));
    }
    here.look(), there.look();
    CHECK((here.out.text == sent && there.in.text == sent));
    CHECK((here.in.text == back && there.out.text == back));
    CHECK((here.out.from == 12 && there.in.from == 12 && here.in.from == 0));  // the bytes before count
    acceptor.flow->tap(nullptr), connector.flow->tap(nullptr);
    acceptor.write("unseen");
    ends.deliver_all();
    CHECK(connector.read() == "unseen");
    here.look(), there.look();
    CHECK((here.out.text == sent && there.in.text == sent));
    connector.engine.capture.reset(), acceptor.engine.capture.reset();
    return true;
  });
}

TEST_CASE("nothing is put into a ring before its reader is there", "[capture]") {
  auto& ends = *new Ends;
  ends.meet();
  ends.with_both([&] {
    Captured captured(ends.acceptor);
    ends.acceptor.write("unseen");
    captured.look();
    CHECK(captured.out.text.empty());
    captured.reader->open();
    ends.acceptor.write("seen");
    captured.look();
    CHECK((captured.out.text == "seen" && captured.out.from == 6));
    ends.acceptor.flow->tap(nullptr);
    ends.acceptor.engine.capture.reset();
    return true;
  });
}

TEST_CASE("rings that wrap and grow, and what is unread at the end, are captured", "[capture]") {
  auto& ends = *new Ends;
  ends.meet();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] {
    Captured here(acceptor), there(connector);
    here.reader->open(), there.reader->open();
    std::string sent;
    for (int turn = 0; turn < 300; ++turn) {
      const std::string text(5000, static_cast<char>('a' + turn % 26));
      for (size_t done = 0; done < text.size();) {
        const iovec piece{const_cast<char*>(text.data()) + done, text.size() - done};
        const auto taken = acceptor.flow->write({&piece, 1}, 0);
        done += taken ? *taken : 0;
        ends.deliver_all();
        if (done < text.size() || turn % 4 == 3) (void)connector.read(8000);
        ends.deliver_all();
      }
      sent += text;
      here.look(), there.look();
    }
    acceptor.flow->close(false);
    ends.deliver_all();
    here.look(), there.look();
    CHECK(here.out.text == sent);
    CHECK(there.in.text == sent);  // the end that reads has it all, and its program some of it
    return true;
  });
  REQUIRE(ends.eventually([&] { return acceptor.flow->finished(); }));
  ends.with_both([&] {
    return connector.flow->tap(nullptr), connector.engine.capture.reset(), acceptor.engine.capture.reset(), true;
  });
}

TEST_CASE("a flow that is closed says so", "[capture]") {
  auto& ends = *new Ends;
  ends.meet();
  auto& [acceptor, connector] = ends;
  std::unique_ptr<Captured> captured;
  ends.with_both([&] {
    captured = std::make_unique<Captured>(acceptor);
    captured->reader->open();
    acceptor.write("last words");
    ends.deliver_all();
    CHECK(connector.read() == "last words");
    acceptor.flow->close(false), connector.flow->close(false);
    return true;
  });
  REQUIRE(ends.eventually([&] { return acceptor.flow->finished(); }));
  captured->look();
  CHECK(captured->ended);
  CHECK(captured->out.text == "last words");
  ends.with_both([&] { return acceptor.engine.capture.reset(), true; });
}

TEST_CASE("only root may capture, one at a time, and it ends with what is kept", "[capture]") {
  auto& ends = *new Ends;
  ends.meet();
  auto& engine = ends.acceptor.engine;
  Capturing capturing(engine);
  const wire::ControlRequest request{wire::Order::capture, 0, wire::kCaptureLeast};
  const auto complaint = [](const Control::Reply& reply) {
    const auto answer = wire::decode_control_answer(reply.packet);
    REQUIRE(answer);
    CHECK(answer->refused == (reply.kept == nullptr));
    CHECK(static_cast<bool>(reply.descriptor) == (reply.kept != nullptr));
    return answer->complaint;
  };
  CHECK(complaint(capturing.begin(request, 1000)) == "only root may capture");
  CHECK(complaint(capturing.begin({wire::Order::capture, 0, 5}, 0)) != "");
  CHECK_FALSE(engine.capture);
  {
    const auto first = capturing.begin(request, 0);
    CHECK(complaint(first) == "");
    CHECK(engine.capture);
    CHECK(complaint(capturing.begin(request, 0)) == "is captured already");
    CHECK(engine.capture);
  }
  CHECK_FALSE(engine.capture);
  ends.with_both([&] {
    ends.acceptor.write("unseen");
    return true;
  });
  CHECK(complaint(capturing.begin(request, 0)) == "");
}
