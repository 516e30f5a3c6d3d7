#include <string>
#include <utility>

#include "tests/programs/hostile/acts.hpp"

namespace hostile {
namespace {

const std::pair<std::string, Step> kSteps[] = {
    {"linked", Step::linked},     {"keyed", Step::keyed},         {"claimed", Step::claimed},
    {"accepted", Step::accepted}, {"confirmed", Step::confirmed}, {"answered", Step::answered},
    {"lane", Step::lane},
};

void leave_link(Play& play, Step step) {
  if (play.reach(step)) rdma_disconnect(play.line().id);
}

void leave_tcp(Play& play, Step step) {
  if (play.reach(step)) play.tcp.close();
}

}  // namespace

std::vector<Act> departures() {
  std::vector<Act> acts;
  for (const auto& [name, at] : kSteps) {
    acts.push_back({"link-leaves-" + name, Who::either, [step = at](Play& play) { leave_link(play, step); }});
    acts.push_back({"tcp-leaves-" + name, Who::either, [step = at](Play& play) { leave_tcp(play, step); }});
    acts.push_back({"mute-when-" + name, Who::either, [step = at](Play& play) { play.reach(step); }});
  }
  return acts;
}

}  // namespace hostile
