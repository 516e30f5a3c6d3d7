// What a process tells of its flows, links and counters, a page at a time.

#include "core/engine/service/survey.hpp"

#include <nlohmann/json.hpp>
#include <sstream>

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;
using nlohmann::json;
using wire::Order;

namespace {

struct World : Ground {
  wire::ControlPage page(Order order, uint16_t port = 0, uint64_t number = 0) {
    return survey(engine, {order, port, number});
  }
  std::vector<json> rows(const wire::ControlPage& page) {
    std::vector<json> all;
    std::istringstream lines(page.text);
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
  }
  // Of all pages, the number of which is counted.
  std::vector<json> all(Order order, size_t& pages) {
    std::vector<json> found;
    uint64_t number = 0;
    pages = 0;
    do {
      const auto one = page(order, 0, number);
      REQUIRE(wire::decode_control_page(encode(one)));
      REQUIRE((one.next == 0 || one.next > number));
      for (auto& row : rows(one)) found.push_back(std::move(row));
      number = one.next;
      ++pages;
    } while (number != 0);
    return found;
  }
};

}  // namespace

TEST_CASE("A flow tells its ends, its lane, and why it is on TCP", "[survey]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  auto told = world.rows(world.page(Order::flows));
  REQUIRE(told.size() == 1);
  CHECK(told[0]["id"] == flow.id());
  CHECK(told[0]["lane"] == "tcp");
  CHECK(told[0]["role"] == "connected");
  CHECK(told[0]["local"] == to_string(flow.local()));
  CHECK(told[0]["peer"] == to_string(flow.remote()));
  CHECK(told[0]["age_seconds"] < 60);
  for (const auto* absent : {"why", "link", "ring_in", "ring_out"}) CHECK_FALSE(told[0].contains(absent));

  world.locked([&] { world.engine.gate.set(false, 0); });
  CHECK(world.rows(world.page(Order::flows))[0]["why"] == key(Reason::by_operator));
  world.locked([&] { world.engine.gate.bar(true); });
  CHECK(world.rows(world.page(Order::flows))[0]["why"] == key(Reason::descriptors));
  world.locked([&] { flow.settle(Reason::plain_peer); });
  CHECK(world.rows(world.page(Order::flows))[0]["why"] == key(Reason::plain_peer));
}

TEST_CASE("Bytes that went by TCP are counted", "[survey]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  char bytes[] = "seven b";
  const iovec piece{bytes, 7};
  CHECK(*world.locked([&] { return flow.write({&piece, 1}, 0); }) == 7u);
  const auto told = world.rows(world.page(Order::flows))[0];
  CHECK(told["bytes_out"] == 7);
  CHECK(told["bytes_in"] == 0);
}

TEST_CASE("A port is that of either end of a flow", "[survey]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  world.flow(Role::connector, kFar);
  CHECK(world.rows(world.page(Order::flows)).size() == 2);
  CHECK(world.rows(world.page(Order::flows, flow.local().port)).size() == 1);
  CHECK(world.rows(world.page(Order::flows, flow.remote().port)).size() == 1);
  CHECK(world.rows(world.page(Order::flows, 1)).empty());
}

TEST_CASE("Many flows are told of in pages, each flow once", "[survey]") {
  World world;
  constexpr size_t kMany = 300;
  std::set<uint64_t> ids;
  for (size_t i = 0; i < kMany; ++i) ids.insert(world.flow(Role::connector, kFar).id());
  size_t pages;
  const auto told = world.all(Order::flows, pages);
  std::set<uint64_t> seen;
  for (const auto& row : told) seen.insert(row["id"].get<uint64_t>());
  CHECK(told.size() == kMany);
  CHECK(seen == ids);
  CHECK(pages > kMany / 64);  // a page is one packet
}

TEST_CASE("Flows that nobody asked for make no page long, and end no list", "[survey]") {
  World world;
  for (size_t i = 0; i < 300; ++i) world.flow(Role::connector, kFar);
  auto& last = world.flow(Role::connector, kFar);
  const auto port = last.local().port;
  auto page = world.page(Order::flows, port);
  CHECK(page.text.empty());
  REQUIRE(page.next != 0);
  page = world.page(Order::flows, port, page.next);
  CHECK(world.rows(page).size() == 1);
  CHECK(page.next == 0);
}

TEST_CASE("A link tells its peer, its lane, its flows and its credits", "[survey]") {
  World world;
  CHECK(world.page(Order::links).text.empty());
  auto& flow = world.flow(Role::acceptor, kFar);
  auto& link = world.link(flow, Lane::rdma);
  world.locked([&] { flow.candidacy().note_used(), flow.claim(link); });
  const auto told = world.rows(world.page(Order::links));
  REQUIRE(told.size() == 1);
  CHECK(told[0]["id"] == link.id());
  CHECK(told[0]["lane"] == "rdma");
  CHECK(told[0]["peer"] == to_string(link.peer()));
  CHECK(told[0]["flows"] == 1);
  CHECK(told[0]["returns"] == 0);
  CHECK(told[0]["credits"] > 0);
  CHECK_FALSE(told[0].contains("device"));
  const auto of_flow = world.rows(world.page(Order::flows))[0];
  CHECK(of_flow["link"] == link.id());
  CHECK(of_flow["lane"] == "entering");
  CHECK(of_flow["ring_in"] > 0);
}

TEST_CASE("Many links are told of in pages, too", "[survey]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  auto& other = world.flow(Role::acceptor, kFar, false);
  for (int i = 0; i < 100; ++i) world.link(i % 2 ? flow : other, Lane::rdma);
  size_t pages, alive = 0;
  for (const auto& link : world.engine.links()) alive += link->alive();
  CHECK(world.all(Order::links, pages).size() == alive);
}

TEST_CASE("The counters are those that are written at the end", "[survey]") {
  World world;
  world.engine.program.name = "a-program";
  const auto told = world.page(Order::statistics);
  CHECK(told.next == 0);
  CHECK(told.text == statistics.to_json("a-program"));
}
