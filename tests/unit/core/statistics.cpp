#include "core/base/statistics.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

using namespace rsock;
using nlohmann::json;

namespace {

json parsed(Statistics& counts, std::string_view program = "redis-server") {
  return json::parse(counts.to_json(program));
}

}  // namespace

TEST_CASE("statistics of a process that did nothing", "[statistics]") {
  Statistics counts;
  const json want = {{"pid", getpid()},
                     {"program", "redis-server"},
                     {"flows", {{"tcp", 0}, {"rdma", 0}, {"shm", 0}}},
                     {"bytes_in", {{"tcp", 0}, {"rdma", 0}, {"shm", 0}}},
                     {"bytes_out", {{"tcp", 0}, {"rdma", 0}, {"shm", 0}}},
                     {"links", 0},
                     {"dials", 0},
                     {"fallback", json::object()},
                     {"returns", json::object()},
                     {"return_us", {{"count", 0}, {"sum", 0}, {"p50", 0}, {"p99", 0}}},
                     {"reentries", 0}};
  CHECK(parsed(counts) == want);
}

TEST_CASE("statistics count each thing in its place", "[statistics]") {
  Statistics counts;
  counts.flows[Lane::tcp].add(1);
  counts.flows[Lane::rdma].add(2);
  counts.flows[Lane::shm].add(3);
  counts.bytes_in[Lane::rdma].add(uint64_t{1} << 63);
  counts.bytes_out[Lane::shm].add();
  counts.links.add(4);
  counts.dials.add(5);
  counts.way_back.add(milliseconds(1));
  counts.fell_back(Reason::plain_peer);
  counts.fell_back(Reason::plain_peer);
  counts.fell_back(Reason::short_lived);
  counts.returned(Reason::link_failed);
  counts.reentries.add(6);
  const auto got = parsed(counts);
  CHECK(got["flows"] == json{{"tcp", 1}, {"rdma", 2}, {"shm", 3}});
  CHECK(got["bytes_in"]["rdma"] == uint64_t{1} << 63);
  CHECK(got["bytes_out"] == json{{"tcp", 0}, {"rdma", 0}, {"shm", 1}});
  CHECK(got["links"] == 4);
  CHECK(got["dials"] == 5);
  CHECK(got["fallback"] == json{{"plain-peer", 2}, {"short-lived", 1}});
  CHECK(got["returns"] == json{{"link-failed", 1}});
  CHECK(got["reentries"] == 6);
  CHECK(got["return_us"]["p50"] >= 1000);
  counts.clear();
  CHECK(parsed(counts) == parsed(*std::make_unique<Statistics>()));
}

TEST_CASE("statistics are one line, whatever the program is called", "[statistics]") {
  Statistics counts;
  for (const std::string program : {"", "a\nb", "quote\"back\\slash", "\xff\xfe not UTF-8", "na\xc3\xafve"}) {
    const auto line = counts.to_json(program);
    REQUIRE_FALSE(line.empty());
    CHECK(line.find('\n') == line.size() - 1);
    CHECK(json::accept(line));
  }
  CHECK(parsed(counts, "a\nb\"")["program"] == "a\nb\"");
}

TEST_CASE("each reason has a key of its own", "[statistics]") {
  Statistics counts;
  for (size_t i = 0; i < kReasons; ++i) counts.fell_back(static_cast<Reason>(i));
  const auto got = parsed(counts);
  CHECK(got["fallback"].size() == kReasons);
  for (const auto& [reason, count] : got["fallback"].items()) {
    CHECK(count == 1);
    CHECK(reason.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string::npos);
  }
  CHECK(key(Reason::plain_peer) == "plain-peer");
}

TEST_CASE("durations are known to a quarter of an octave", "[statistics]") {
  for (const uint64_t us :
       {0ull, 1ull, 3ull, 4ull, 7ull, 8ull, 9ull, 100ull, 1000ull, 5000ull, 1'000'000ull, 3'600'000'000ull}) {
    Durations one;
    one.add(microseconds(us));
    INFO(us);
    CHECK(one.percentile(0.5) >= us);
    CHECK(one.percentile(0.5) <= us + us / 4);
  }
  Durations many;
  CHECK(many.percentile(0.5) == 0);
  for (int us = 1; us <= 1000; ++us) many.add(microseconds(us));
  CHECK(many.count() == 1000);
  CHECK(many.percentile(0.5) >= 500);
  CHECK(many.percentile(0.5) <= 625);
  CHECK(many.percentile(0.99) >= 990);
  CHECK(many.percentile(1) <= 1250);
  many.add(std::chrono::hours(1000));
  many.add(-milliseconds(1));
  CHECK(many.count() == 1002);
}

TEST_CASE("no count is lost between threads", "[statistics]") {
  Statistics counts;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 10000; ++n) counts.bytes_in[Lane::rdma].add(2);
    });
  for (auto& thread : threads) thread.join();
  CHECK(counts.bytes_in[Lane::rdma].get() == 80000);
}
