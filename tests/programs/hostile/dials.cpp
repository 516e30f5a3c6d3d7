#include "tests/programs/hostile/acts.hpp"

namespace hostile {
namespace {

constexpr int kManyDials = 50;
constexpr int kAtOnce = 4;  // as many wait at a point: it never hears of more, however many there are
constexpr auto kLeading = 2500ms;

// What a victim that dials is answered, each time.
using LeadOn = void (*)(Play&, rdma_cm_id*);

const std::pair<const char*, LeadOn> kLeadOn[] = {
    {"never-answered", [](Play&, rdma_cm_id*) {}},
    {"always-declined",
     [](Play& p, rdma_cm_id* id) {
       p.answer(id, greeting_bytes());
       if (p.until([&] { return p.linked(); }, kPatience)) p.introduce();
     }},
    {"always-hung-up",
     [](Play& p, rdma_cm_id* id) {
       p.answer(id, greeting_bytes());
       p.until([&] { return p.linked(); }, kPatience);
       p.hang_up();
     }},
    {"always-refused", [](Play&, rdma_cm_id* id) { rdma_reject(id, nullptr, 0), rdma_destroy_id(id); }},
};

void dial_often(Play& play) {
  play.link(greeting_bytes());
  for (int i = 1; i < kManyDials; i += kAtOnce) {
    for (int j = 0; j < kAtOnce; ++j) play.dial(greeting_bytes());
    play.until([&] { return play.all_answered(); }, kPatience);
  }
}

void lead_on(Play& play, LeadOn answer) {
  for (const auto deadline = Clock::now() + kLeading; Clock::now() < deadline;) {
    if (auto* id = play.request(50ms)) answer(play, id);
    while (play.linked())
      if (const auto claim = play.line().take<wire::Claim>())
        play.say(wire::Decline{claim->from, wire::DeclineCause::unknown_flow});
      else
        break;
  }
}

}  // namespace

std::vector<Act> dials() {
  std::vector<Act> acts{{"many-dials", Who::server, dial_often}};
  for (const auto& [name, answer] : kLeadOn)
    acts.push_back({name, Who::client, [answer = answer](Play& play) { lead_on(play, answer); }});
  return acts;
}

}  // namespace hostile
