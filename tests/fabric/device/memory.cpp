#include "tests/fabric/device/memory.hpp"

#include <cerrno>

namespace fabric {
namespace {

uint32_t last_key = 0x1000;

constexpr uint32_t kStep = 0x101;  // so that a key that is off by one is nobody's

}  // namespace

bool Memory::read(uint64_t address, std::span<uint8_t> to) const {
  for (size_t done = 0; done < to.size();) {
    const auto got = pread(file_.get(), to.data() + done, to.size() - done, static_cast<off_t>(address + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

bool Memory::write(uint64_t address, std::span<const uint8_t> from) const {
  for (size_t done = 0; done < from.size();) {
    const auto put = pwrite(file_.get(), from.data() + done, from.size() - done, static_cast<off_t>(address + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    done += static_cast<size_t>(put);
  }
  return true;
}

void Memory::add(const Region& region, Answer& keys) {
  last_key += kStep;
  regions_.emplace(last_key, region);
  keys.handle = keys.local_key = last_key;
  keys.remote_key = ~last_key;
}

bool Memory::local(uint32_t key, uint64_t domain, uint64_t address, uint64_t size, uint32_t access) const {
  const auto found = regions_.find(key);
  if (found == regions_.end()) return false;
  const auto& region = found->second;
  return region.domain == domain && (region.access & access) == access && address >= region.address &&
         size <= region.size && address - region.address <= region.size - size;
}

bool Memory::remote(uint32_t key, uint64_t domain, uint64_t address, uint64_t size, uint32_t access) const {
  return local(~key, domain, address, size, access);
}

}  // namespace fabric
