#pragma once
// Everything that a hostile peer may do, by name: each on a connection of its own.

#include <functional>
#include <string>
#include <vector>

#include "tests/programs/hostile/play.hpp"

namespace hostile {

// The role that it needs; a server dials, a client is dialled.
enum class Who { either, server, client };

struct Act {
  std::string name;
  Who who;
  std::function<void(Play&)> play;
};

std::vector<Act> greetings();   // private data that is wrong
std::vector<Act> misdeeds();    // messages, data and frames that are wrong
std::vector<Act> departures();  // the link goes, or the connection, or nothing more is said
std::vector<Act> dials();       // too many, or answered in a bad way

}  // namespace hostile
