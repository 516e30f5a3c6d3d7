#pragma once
// The memory of a process, as far as it is registered. It is reached by /proc/PID/mem, which is that of the
// program that opened it, also after that called exec or has ended: then there is none.

#include <infiniband/verbs.h>

#include <map>
#include <optional>
#include <span>

#include "tests/fabric/device/descriptor.hpp"
#include "tests/fabric/wire.hpp"

namespace fabric {

class Memory {
 public:
  explicit Memory(Descriptor file) : file_(std::move(file)) {}
  bool read(uint64_t address, std::span<uint8_t> to) const;
  bool write(uint64_t address, std::span<const uint8_t> from) const;

  struct Region {
    uint64_t domain, address, size;
    uint32_t access;
  };
  // The keys are no other region's, and different ones for the two ends.
  void add(const Region& region, Answer& keys);
  void remove(uint64_t handle) { regions_.erase(static_cast<uint32_t>(handle)); }
  // Whether the bytes may be reached with this key for this kind of access (0: to read them from here).
  bool local(uint32_t key, uint64_t domain, uint64_t address, uint64_t size, uint32_t access) const;
  bool remote(uint32_t key, uint64_t domain, uint64_t address, uint64_t size, uint32_t access) const;

 private:
  const Descriptor file_;
  std::map<uint32_t, Region> regions_;  // by the key for this end
};

}  // namespace fabric
