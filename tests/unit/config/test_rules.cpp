#include <catch2/catch.hpp>
#include <initializer_list>

#include "addresses.hpp"
#include "config/rules.hpp"

using namespace rsock::config;

namespace {

Rule listen(const char* endpoint, Lane lane = Lane::automatic) {
  return {Rule::Side::listen, std::get<Endpoint>(parse_endpoint(endpoint)), "", lane};
}

Rule connect(const char* endpoint, Lane lane = Lane::automatic) {
  return {Rule::Side::connect, std::get<Endpoint>(parse_endpoint(endpoint)), "", lane};
}

Rules rules(std::initializer_list<Rule> list) { return Rules(std::vector<Rule>(list)); }

}  // namespace

TEST_CASE("no rule selects nothing") {
  const Rules none;
  CHECK(none.listen(At("10.0.0.1", 80)) == std::nullopt);
  CHECK(none.connect(At("10.0.0.1", 80)) == std::nullopt);
  CHECK_FALSE(none.may_listen(At("0.0.0.0", 80)));
  CHECK_FALSE(none.any_listen());
  CHECK_FALSE(none.any_connect());
}

TEST_CASE("the sides stay apart") {
  const Rules listening = rules({listen("*:80")});
  CHECK(listening.listen(At("10.0.0.1", 80)) == Lane::automatic);
  CHECK(listening.connect(At("10.0.0.1", 80)) == std::nullopt);
  CHECK(listening.any_listen());
  CHECK_FALSE(listening.any_connect());

  const Rules connecting = rules({connect("*:80", Lane::shm)});
  CHECK(connecting.listen(At("10.0.0.1", 80)) == std::nullopt);
  CHECK(connecting.connect(At("10.0.0.1", 80)) == Lane::shm);
  CHECK_FALSE(connecting.may_listen(At("0.0.0.0", 80)));
  CHECK_FALSE(connecting.any_listen());
  CHECK(connecting.any_connect());
}

TEST_CASE("the first match wins") {
  const Rules set = rules({connect("10.0.0.1:80", Lane::rdma), connect("10.0.0.0/8:80", Lane::shm),
                           connect("*:80-90", Lane::automatic), connect("*:80", Lane::tcp)});
  CHECK(set.connect(At("10.0.0.1", 80)) == Lane::rdma);
  CHECK(set.connect(At("10.0.0.2", 80)) == Lane::shm);
  CHECK(set.connect(At("11.0.0.1", 80)) == Lane::automatic);
  CHECK(set.connect(At("10.0.0.1", 90)) == Lane::automatic);
  CHECK(set.connect(At("10.0.0.1", 91)) == std::nullopt);
}

TEST_CASE("a tcp rule excludes what later rules would select") {
  const Rules set = rules({connect("10.0.0.1:*", Lane::tcp), connect("*:*", Lane::rdma)});
  CHECK(set.connect(At("10.0.0.1", 80)) == Lane::tcp);
  CHECK(set.connect(At("::ffff:10.0.0.1", 80)) == Lane::tcp);
  CHECK(set.connect(At("10.0.0.2", 80)) == Lane::rdma);
}

TEST_CASE("rules for tcp alone select nothing") {
  const Rules set = rules({connect("*:*", Lane::tcp), listen("*:*", Lane::tcp)});
  CHECK_FALSE(set.any_connect());
  CHECK_FALSE(set.any_listen());
  CHECK_FALSE(set.may_listen(At("::", 80)));
}

TEST_CASE("other families are never selected") {
  const Rules set = rules({connect("*:*"), listen("*:*")});
  sockaddr other{};
  other.sa_family = AF_UNIX;
  CHECK(set.connect(other) == std::nullopt);
  CHECK(set.listen(other) == std::nullopt);
  CHECK_FALSE(set.may_listen(other));
}

TEST_CASE("a listener on one address may be selected as its flows are") {
  const Rules set = rules({listen("10.0.0.1:80", Lane::tcp), listen("10.0.0.0/8:80"), listen("[::1]:80")});
  CHECK_FALSE(set.may_listen(At("10.0.0.1", 80)));
  CHECK(set.may_listen(At("10.0.0.2", 80)));
  CHECK(set.may_listen(At("::ffff:10.0.0.2", 80)));
  CHECK(set.may_listen(At("::1", 80)));
  CHECK_FALSE(set.may_listen(At("::2", 80)));
  CHECK_FALSE(set.may_listen(At("10.0.0.2", 81)));
}

TEST_CASE("a listener on a wildcard may be selected when any of its flows can be") {
  const Rules v4 = rules({listen("10.0.0.0/8:80")});
  CHECK(v4.may_listen(At("0.0.0.0", 80)));
  CHECK(v4.may_listen(At("::", 80)));
  CHECK(v4.may_listen(At("::ffff:0.0.0.0", 80)));
  CHECK_FALSE(v4.may_listen(At("0.0.0.0", 81)));
  CHECK_FALSE(v4.may_listen(At("::", 81)));

  const Rules v6 = rules({listen("[fd00::/8]:80")});
  CHECK_FALSE(v6.may_listen(At("0.0.0.0", 80)));
  CHECK(v6.may_listen(At("::", 80)));

  const Rules any = rules({listen("*:80")});
  CHECK(any.may_listen(At("0.0.0.0", 80)));
  CHECK(any.may_listen(At("::", 80)));
}

TEST_CASE("a tcp rule silences a wildcard listener only when it covers all of its flows") {
  CHECK(rules({listen("10.0.0.1:80", Lane::tcp), listen("*:80")}).may_listen(At("0.0.0.0", 80)));
  CHECK_FALSE(rules({listen("*:80", Lane::tcp), listen("*:80")}).may_listen(At("::", 80)));
  CHECK_FALSE(rules({listen("0.0.0.0/0:80", Lane::tcp), listen("*:80")}).may_listen(At("0.0.0.0", 80)));
  CHECK(rules({listen("0.0.0.0/0:80", Lane::tcp), listen("*:80")}).may_listen(At("::", 80)));
  CHECK(rules({listen("[::/0]:80", Lane::tcp), listen("*:80")}).may_listen(At("::", 80)));
  CHECK(rules({listen("*:81", Lane::tcp), listen("*:80")}).may_listen(At("::", 80)));
}

TEST_CASE("a rule applies to the programs that its pattern matches") {
  Rule rule = listen("*:80");
  CHECK(rule.applies_to("redis-server"));
  CHECK(rule.applies_to(""));
  rule.program = "redis-*";
  CHECK(rule.applies_to("redis-server"));
  CHECK(rule.applies_to("redis-"));
  CHECK_FALSE(rule.applies_to("redis"));
  CHECK_FALSE(rule.applies_to("my-redis-server"));
  CHECK_FALSE(rule.applies_to(""));
  rule.program = "[np]ginx?";
  CHECK(rule.applies_to("nginx2"));
  CHECK_FALSE(rule.applies_to("nginx"));
}

TEST_CASE("a rule is shown in one line") {
  Rule rule = connect("10.1.1.1/8:80-90", Lane::rdma);
  CHECK(to_string(rule) == "connect 10.0.0.0/8:80-90 lane rdma");
  rule.program = "redis-*";
  CHECK(to_string(rule) == "connect 10.0.0.0/8:80-90 lane rdma program redis-*");
  CHECK(to_string(listen("*:80")) == "listen *:80 lane auto");
}
