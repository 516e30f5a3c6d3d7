#pragma once
// Where a process finds what is complete: a queue in its memory, and the pipe that tells of it, once for each
// time it was armed.

#include <deque>
#include <memory>

#include "tests/fabric/device/chance.hpp"
#include "tests/fabric/device/loop.hpp"
#include "tests/fabric/wire.hpp"

namespace fabric {

class Queue : public std::enable_shared_from_this<Queue> {
 public:
  // `told`: where its number is written, if there is such a thing. `overrun`: more came than it has room for;
  // nothing comes any more.
  Queue(Loop& loop, Chance& chance, uint64_t number, Mapping memory, std::shared_ptr<Descriptor> told, Loop::Do overrun)
      : loop_(loop),
        chance_(chance),
        number_(number),
        memory_(std::move(memory)),
        told_(std::move(told)),
        overrun_(std::move(overrun)) {}
  void push(const Completion& completion);

 private:
  void release();
  void put(const Completion& completion);

  Loop& loop_;
  Chance& chance_;
  const uint64_t number_;
  const Mapping memory_;
  const std::shared_ptr<Descriptor> told_;
  const Loop::Do overrun_;
  std::deque<Completion> held_;  // that come late
};

}  // namespace fabric
