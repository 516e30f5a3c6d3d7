// fuzz_seeds FOLDER: writes one valid input of each kind into FOLDER/message, greeting, frame, control, capture and
// config.

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "core/wire/capture.hpp"
#include "core/wire/control.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/greeting.hpp"
#include "core/wire/message.hpp"

using namespace rsock;
using namespace rsock::wire;

namespace {

std::string_view text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Folder {
 public:
  Folder(const std::filesystem::path& where, const char* name) : path_(where / name) {
    std::filesystem::create_directories(path_);
  }
  void add(std::string_view bytes) {
    std::ofstream file(path_ / std::to_string(count_++), std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::filesystem::path path_;
  int count_ = 0;
};

void messages(Folder folder) {
  Endpoint v4, v6;
  v4.address.bytes = {192, 0, 2, 1}, v4.port = 6379;
  v6.address.v6 = true, v6.address.bytes = {0x20, 1, 0xd, 0xb8}, v6.port = 50000;
  const RingPlace ring{0x7f0000000000, 0x1234, 16384};
  const Nonce nonce{1, 2, 3};
  const uint8_t pieces[] = {0, 0, 0, 1, 0, 2, 'a', 'b', 0, 0, 0, 2, 0, 1, 'c'};
  const Body bodies[] = {Key{{4, 5, 6}, {7, 8, 9}},
                         Claim{1, v4, v4, ring, nonce},
                         Claim{2, v6, v6, ring, nonce},
                         Accept{1, 3, ring, nonce, 77},
                         Confirm{1, 88},
                         Decline{1, DeclineCause::resources},
                         Window{1, 4096},
                         Blocked{1},
                         Grow{1, ring},
                         Switch{1},
                         Fin{1, 99, true},
                         Reset{1},
                         Retire{1},
                         Credit{},
                         Pieces{pieces},
                         Witness{1, {10, 11, 12}}};
  for (const auto& body : bodies) folder.add(text(encode(Message{5, body}).span()));
}

void greetings(Folder folder) {
  for (const auto verdict : {Verdict::welcome, Verdict::version, Verdict::stranger})
    folder.add(text(encode(Greeting{kVersion, verdict, 42, 256, {1, 2, 3}})));
  for (const uint32_t receives : {kFewestReceives - 1, kMostReceives + 1})
    folder.add(text(encode(Greeting{kVersion, Verdict::welcome, 42, receives, {}})));
  Hello hello{{kVersion, Verdict::welcome, 42, 256, {}}, {}};
  hello.acceptor.port = 6379;
  folder.add(text(encode(hello)));
}

void frames(Folder folder) {
  const Mark token{9, 8, 7};
  folder.add(std::string(text(token)) + std::string(text(encode(token, Frame{FrameKind::resume, 1000}))));
}

void controls(Folder folder) {
  for (const auto order : {Order::tell, Order::reload, Order::hand_over, Order::flows})
    folder.add(text(encode(ControlRequest{order, 6379, 1})));
  ControlAnswer answer;
  answer.stay = {{"shared", 1}};
  answer.program = "redis-server";
  answer.complaint = "no such key";
  folder.add(text(encode(answer)));
  folder.add(text(encode(ControlPage{7, "{\"id\":7}\n"})));
}

void captures(Folder folder) {
  alignas(64) static std::array<std::byte, kCaptureRing + 4096> memory;
  CaptureWriter writer(memory);
  CaptureRecord record;
  for (const uint32_t bytes : {0, 5, 1000, 2000}) {
    record.bytes = bytes;
    (void)writer.begin(record);
    writer.commit();
    std::string seed(sizeof(uint64_t), 0);
    std::memcpy(seed.data(), memory.data(), seed.size());  // `written`
    folder.add(seed + std::string(reinterpret_cast<const char*>(memory.data()) + kCaptureRing, 4096));
  }
}

void configs(Folder folder) {
  folder.add("");
  folder.add("[[rule]]\nlisten = \"*:6379\"\nlane = \"auto\"\nprogram = \"redis-*\"\n");
  folder.add(
      "[[rule]]\nconnect = \"[fd00::/8]:80-90\"\nlane = \"rdma\"\n[[rule]]\nconnect = \"10.0.0.0/8:*\"\nlane = "
      "\"tcp\"\n");
  folder.add(
      "[options]\nring_min = 16384\nring_max = 1048576\nspin_us = 20\ncheck_peer_address = false\ndevice = \"rxe0\"\n");
  folder.add("a.b.c = {x = [1, 2.5, true, 1979-05-27T07:32:00Z]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  messages({argv[1], "message"});
  greetings({argv[1], "greeting"});
  frames({argv[1], "frame"});
  controls({argv[1], "control"});
  captures({argv[1], "capture"});
  configs({argv[1], "config"});
}
