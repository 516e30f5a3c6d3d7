#pragma once
// Somebody with a link to each end of a connection that is neither's: it hands on what they say of a cutover,
// with rings of its own. Either half has one of the links, from the address of the peer that it passes for; a
// TCP connection is between them.

#include "tests/programs/hostile/play.hpp"

namespace hostile {

// The half that has a link to the server, or to the client. Owns `other_half`. Prints what it has handed on,
// and what it got for it. The exit status.
int relay_to_server(Play& server, int other_half);
int relay_to_client(Play& client, int other_half);

}  // namespace hostile
