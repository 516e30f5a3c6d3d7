// The packets that `rsock capture` makes up, and the file that it puts them into; each byte of it is read
// back here.

#include "tools/capture/pcapng.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "core/wire/bytes.hpp"
#include "tools/capture/connections.hpp"

using namespace rsock;
using namespace rsock::tools;

namespace {

using Bytes = std::vector<uint8_t>;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// ---- packets, parsed

struct Parsed {
  bool v6 = false;
  std::string source, target;  // addresses
  uint16_t source_port = 0, target_port = 0;
  uint32_t seq = 0, ack = 0;
  uint8_t flags = 0;
  std::string data;
};

uint16_t sum_of(std::span<const uint8_t> bytes, uint32_t sum = 0) {
  for (size_t at = 0; at < bytes.size(); ++at) sum += static_cast<uint32_t>(bytes[at]) << (at % 2 ? 0 : 8);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

Parsed parse(const Bytes& packet) {
  Parsed parsed;
  wire::Reader reader(packet);
  parsed.v6 = packet[0] >> 4 == 6;
  const size_t ip = parsed.v6 ? 40 : 20, address = parsed.v6 ? 16 : 4, from = ip - 2 * address;
  if (parsed.v6) {
    REQUIRE(reader.number<uint32_t>() == 0x60000000);
    CHECK(reader.number<uint16_t>() == packet.size() - ip);
    CHECK(reader.number<uint8_t>() == 6);
    reader.take(1);
  } else {
    REQUIRE(reader.number<uint16_t>() == 0x4500);
    CHECK(reader.number<uint16_t>() == packet.size());
    reader.take(5);
    CHECK(reader.number<uint8_t>() == 6);
    reader.take(2);
    CHECK(sum_of({packet.data(), ip}) == 0xffff);
  }
  Address source{.v6 = parsed.v6}, target{.v6 = parsed.v6};
  std::memcpy(source.bytes.data(), packet.data() + from, address);
  std::memcpy(target.bytes.data(), packet.data() + from + address, address);
  reader.take(2 * address);
  const std::span tcp(packet.data() + ip, packet.size() - ip);
  CHECK(sum_of(tcp, sum_of({packet.data() + from, 2 * address}, static_cast<uint32_t>(6 + tcp.size()))) == 0xffff);
  parsed.source = to_string(source), parsed.target = to_string(target);
  parsed.source_port = reader.number<uint16_t>(), parsed.target_port = reader.number<uint16_t>();
  parsed.seq = reader.number<uint32_t>(), parsed.ack = reader.number<uint32_t>();
  const size_t head = static_cast<size_t>(reader.number<uint8_t>() >> 4) * 4;
  parsed.flags = reader.number<uint8_t>();
  REQUIRE(head >= 20);
  parsed.data.assign(tcp.begin() + static_cast<std::ptrdiff_t>(head), tcp.end());
  return parsed;
}

constexpr uint8_t kFin = 1, kSyn = 2, kAck = 16, kPush = 8;

Endpoint at(uint8_t last, uint16_t port, bool v6 = false) {
  Endpoint made;
  made.port = port;
  made.address.v6 = v6;
  made.address.bytes = v6 ? std::array<uint8_t, 16>{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}
                          : std::array<uint8_t, 16>{192, 0, 2, last};
  return made;
}

struct Packets {
  std::vector<Parsed> all;
  std::vector<bool> outgoing;
  std::vector<uint32_t> processes;
  Segments::Emit emit = [this](From, auto head, auto data) { add(head, data); };
  void add(std::span<const uint8_t> head, std::span<const std::byte> data) {
    Bytes packet(head.begin(), head.end());
    for (const auto byte : data) packet.push_back(static_cast<uint8_t>(byte));
    all.push_back(parse(packet));
  }
};

}  // namespace

TEST_CASE("made-up segments are a connection of TCP from its handshake to its end", "[pcapng]") {
  for (const bool v6 : {false, true}) {
    Packets packets;
    Segments segments(at(1, 40000, v6), at(2, 6379, v6));
    segments.begin(packets.emit);
    segments.data(From::connector, 1000, bytes_of("PING\r\n"), packets.emit);
    segments.data(From::acceptor, 77, bytes_of("+PONG\r\n"), packets.emit);
    segments.data(From::connector, 1006, bytes_of("PING\r\n"), packets.emit);
    segments.end(From::acceptor, packets.emit);
    const auto& all = packets.all;
    REQUIRE(all.size() == 9);
    const std::vector<std::tuple<bool, uint32_t, uint32_t, uint8_t, std::string>> expected{
        {true, 0, 0, kSyn, ""},
        {false, 0, 1, kSyn | kAck, ""},
        {true, 1, 1, kAck, ""},
        {true, 1, 1, kPush | kAck, "PING\r\n"},
        {false, 1, 7, kPush | kAck, "+PONG\r\n"},
        {true, 7, 8, kPush | kAck, "PING\r\n"},
        {false, 8, 13, kFin | kAck, ""},
        {true, 13, 9, kFin | kAck, ""},
        {false, 9, 14, kAck, ""},
    };
    for (size_t i = 0; i < all.size(); ++i) {
      INFO(i);
      const auto& [by_connector, seq, ack, flags, data] = expected[i];
      CHECK(all[i].v6 == v6);
      CHECK((all[i].seq == seq && all[i].ack == ack && all[i].flags == flags && all[i].data == data));
      CHECK(all[i].source_port == (by_connector ? 40000 : 6379));
      CHECK(all[i].target_port == (by_connector ? 6379 : 40000));
      CHECK(all[i].source == (v6             ? by_connector ? "2001:db8::1" : "2001:db8::2"
                              : by_connector ? "192.0.2.1"
                                             : "192.0.2.2"));
    }
  }
}

TEST_CASE("much at once is several segments, what is missing is a gap, and numbers wrap", "[pcapng]") {
  Packets packets;
  Segments segments(at(1, 1), at(2, 2));
  std::string much(3 * Segments::kMost + 5, 'x');
  segments.data(From::connector, 50, bytes_of(much), packets.emit);
  REQUIRE(packets.all.size() == 4);
  CHECK(packets.all[3].seq == 1 + 3 * Segments::kMost);
  CHECK(packets.all[3].data == "xxxxx");
  segments.data(From::connector, 50 + much.size() + 1000, bytes_of("odd"), packets.emit);
  CHECK(packets.all[4].seq == 1 + much.size() + 1000);
  segments.data(From::connector, 49 + (uint64_t{1} << 32), bytes_of("ab"), packets.emit);
  segments.data(From::acceptor, 0, bytes_of("c"), packets.emit);
  CHECK(packets.all[5].seq == 0);
  CHECK(packets.all[6].ack == 2);
}

namespace {

wire::CaptureRecord record(const Endpoint& local, const Endpoint& remote, bool accepted, bool outgoing,
                           uint64_t flow = 1, uint64_t position = 0) {
  wire::CaptureRecord made;
  made.accepted = accepted, made.outgoing = outgoing, made.flow = flow, made.position = position;
  made.v6 = local.address.v6;
  made.local = local.address.bytes, made.remote = remote.address.bytes;
  made.local_port = local.port, made.remote_port = remote.port;
  return made;
}

struct Told : Packets {
  Connections connections{[this](uint32_t process, uint64_t, bool out, auto head, auto data) {
    add(head, data);
    outgoing.push_back(out), processes.push_back(process);
  }};
  std::string text() const {
    std::string all_data;
    for (const auto& packet : all) all_data += packet.data;
    return all_data;
  }
};

}  // namespace

TEST_CASE("a connection whose ends are both told is there once", "[pcapng]") {
  const auto client = at(1, 40000), server = at(1, 6379);
  for (const bool server_first : {false, true}) {
    Told told;
    auto by_client = record(client, server, false, true), by_server = record(server, client, true, false, 9);
    const auto take = [&](bool of_server) {
      told.connections.take(of_server, of_server ? by_server : by_client, bytes_of("ask"));
    };
    take(server_first), take(!server_first);
    CHECK(told.text() == "ask");
    CHECK(told.connections.count() == 1);
    CHECK(told.connections.bytes() == 3);
    REQUIRE(told.all.size() == 4);
    CHECK(told.all[3].source_port == 40000);
    CHECK(told.outgoing ==
          (server_first ? std::vector{false, true, false, false} : std::vector{true, false, true, true}));
    CHECK(told.processes == std::vector<uint32_t>(4, server_first));
    by_client.outgoing = false, by_server.outgoing = true;
    take(server_first), take(!server_first);
    CHECK(told.text() == "askask");
    CHECK(told.all[4].source_port == 6379);
    by_client.kind = by_server.kind = wire::CaptureKind::end;
    take(server_first), take(!server_first);
    CHECK(told.all.size() == 8);
    by_client.kind = by_server.kind = wire::CaptureKind::data;
    take(!server_first);  // late words of the end that does not count
    CHECK(told.all.size() == 8);
  }
}

TEST_CASE("a connection between the same ends as an earlier one begins anew", "[pcapng]") {
  const auto client = at(1, 40000), server = at(2, 6379);
  Told told;
  told.connections.take(0, record(server, client, true, false, 5, 1000), bytes_of("first"));
  auto end = record(server, client, true, false, 5);
  end.kind = wire::CaptureKind::end;
  told.connections.take(0, end, {});
  told.connections.take(0, record(server, client, true, false, 6, 3), bytes_of("second"));
  told.connections.take(0, end, {});  // of one that is forgotten
  CHECK(told.connections.count() == 2);
  REQUIRE(told.all.size() == 11);
  CHECK((told.all[10].seq == 1 && told.all[10].data == "second"));
}

TEST_CASE("an end alone is no connection", "[pcapng]") {
  Told told;
  auto end = record(at(1, 1), at(2, 2), true, false);
  end.kind = wire::CaptureKind::end;
  told.connections.take(0, end, {});
  CHECK(told.all.empty());
}

TEST_CASE("a file has the blocks of pcapng, each of them closed by its length", "[pcapng]") {
  Bytes out;
  Pcapng file(out);
  file.section("a program");
  CHECK(file.interface("one[1]") == 0);
  CHECK(file.interface("another[22]") == 1);
  const Bytes head{1, 2, 3};
  file.packet(1, 0x1122334455667788, true, head, bytes_of("dat"));
  file.statistics(0, 7, 8, 9);

  std::vector<std::pair<uint32_t, Bytes>> blocks;
  const auto number = [](const Bytes& from, size_t at, auto value) {
    REQUIRE(at + sizeof value <= from.size());
    std::memcpy(&value, from.data() + at, sizeof value);
    return value;
  };
  for (size_t at = 0; at < out.size();) {
    const auto length = number(out, at + 4, uint32_t{});
    REQUIRE((length % 4 == 0 && length >= 12 && at + length <= out.size()));
    CHECK(number(out, at + length - 4, uint32_t{}) == length);
    blocks.emplace_back(number(out, at, uint32_t{}), Bytes(out.begin() + static_cast<std::ptrdiff_t>(at) + 8,
                                                           out.begin() + static_cast<std::ptrdiff_t>(at + length) - 4));
    at += length;
  }
  // Options by code, behind the fixed part.
  const auto options = [&](const Bytes& block, size_t at) {
    std::map<uint16_t, std::string> found;
    for (;;) {
      const auto code = number(block, at, uint16_t{}), size = number(block, at + 2, uint16_t{});
      if (code == 0) {
        CHECK((size == 0 && at + 4 == block.size()));
        return found;
      }
      REQUIRE(at + 4 + size <= block.size());
      found[code].assign(block.begin() + static_cast<std::ptrdiff_t>(at) + 4,
                         block.begin() + static_cast<std::ptrdiff_t>(at + 4 + size));
      at += 4 + (size + 3u) / 4 * 4;
    }
  };
  REQUIRE(blocks.size() == 5);
  CHECK(blocks[0].first == 0x0a0d0d0a);
  CHECK(number(blocks[0].second, 0, uint32_t{}) == 0x1a2b3c4d);
  CHECK(options(blocks[0].second, 16)[4] == "a program");
  CHECK((blocks[1].first == 1 && blocks[2].first == 1));
  CHECK(number(blocks[2].second, 0, uint16_t{}) == 101);
  CHECK(options(blocks[2].second, 8)[2] == "another[22]");
  CHECK(options(blocks[2].second, 8)[9] == "\x09");
  CHECK(blocks[3].first == 6);
  const auto& packet = blocks[3].second;
  CHECK(number(packet, 0, uint32_t{}) == 1);
  CHECK((number(packet, 4, uint32_t{}) == 0x11223344 && number(packet, 8, uint32_t{}) == 0x55667788));
  CHECK((number(packet, 12, uint32_t{}) == 6 && number(packet, 16, uint32_t{}) == 6));
  CHECK(std::string(packet.begin() + 20, packet.begin() + 26) ==
        "\x01\x02\x03"
        "dat");
  CHECK(options(packet, 28)[2] == std::string("\x02\0\0\0", 4));
  CHECK(blocks[4].first == 5);
  CHECK(options(blocks[4].second, 12)[4] == std::string("\x08\0\0\0\0\0\0\0", 8));
  CHECK(options(blocks[4].second, 12)[5] == std::string("\x09\0\0\0\0\0\0\0", 8));
}
