#pragma once
// What a process tells of its flows, its links and its counters to those who look (core/wire/control.hpp), a
// page at a time.
//
// The service's thread, without the engine's lock. That is held while some flows are copied, a bounded number
// however many there are; the text is made of the copies, without it. Nothing is kept from one page to the
// next: a page begins behind the number that the one before named, and flows and links are in the order of
// their numbers. One that comes meanwhile is told of, one that goes is not.

#include "core/engine/engine.hpp"
#include "core/wire/control.hpp"

namespace rsock::engine {

wire::ControlPage survey(Engine& engine, const wire::ControlRequest& request);

}  // namespace rsock::engine
