#include "core/wire/capture.hpp"

#include <bit>
#include <cassert>
#include <cstring>

namespace rsock::wire {
namespace {

constexpr uint32_t kSkip = UINT32_MAX;  // in the place of `bytes`
constexpr size_t kSkipSize = 2 * sizeof(uint32_t);
constexpr uint64_t kAligned = 8;

uint64_t length_of(uint32_t bytes) { return (sizeof(CaptureRecord) + bytes + kAligned - 1) & ~(kAligned - 1); }

CaptureHead& head_of(std::span<std::byte> memory) { return *reinterpret_cast<CaptureHead*>(memory.data()); }

}  // namespace

CaptureWriter::CaptureWriter(std::span<std::byte> memory)
    : head_(head_of(memory)), ring_(memory.subspan(kCaptureRing)) {
  assert(CaptureReader::fits(memory.size()));
}

std::byte* CaptureWriter::begin(CaptureRecord record) {
  const auto length = length_of(record.bytes);
  const auto at = written_ & (ring_.size() - 1);
  const auto rest = ring_.size() - at;
  const auto needed = length <= rest ? length : rest + length;
  const auto room = [&] { return written_ - read_ <= ring_.size() && ring_.size() - (written_ - read_) >= needed; };
  if (!room()) read_ = head_.read.load(std::memory_order_acquire);
  if (!room()) {
    // Only this process writes them.
    head_.lost_records.store(head_.lost_records.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    head_.lost_bytes.store(head_.lost_bytes.load(std::memory_order_relaxed) + record.bytes, std::memory_order_relaxed);
    return nullptr;
  }
  auto* place = ring_.data() + at;
  if (length > rest) {
    const uint32_t skip[]{static_cast<uint32_t>(rest), kSkip};
    std::memcpy(place, skip, kSkipSize);
    place = ring_.data();
  }
  record.length = static_cast<uint32_t>(length);
  std::memcpy(place, &record, sizeof record);
  begun_ = written_ + needed;
  return place + sizeof record;
}

void CaptureWriter::commit() {
  written_ = begun_;
  head_.written.store(written_, std::memory_order_release);
}

bool CaptureReader::fits(size_t memory) {
  return memory > kCaptureRing && std::has_single_bit(memory - kCaptureRing) && memory - kCaptureRing >= kCaptureRing;
}

CaptureReader::CaptureReader(std::span<std::byte> memory)
    : head_(head_of(memory)), ring_(memory.subspan(kCaptureRing)) {
  assert(fits(memory.size()));
}

CaptureReader::Next CaptureReader::take(CaptureRecord& record, std::span<const std::byte>& bytes) {
  for (;;) {
    const auto there = head_.written.load(std::memory_order_acquire) - read_;
    if (there == 0) return Next::nothing;
    const auto at = read_ & (ring_.size() - 1);
    const auto rest = ring_.size() - at;
    if (there > ring_.size() || there < kSkipSize) return Next::fault;
    uint32_t first[2];
    std::memcpy(first, ring_.data() + at, kSkipSize);
    if (first[1] == kSkip) {
      if (first[0] != rest || there < rest) return Next::fault;
      read_ += rest;
      continue;
    }
    if (there < sizeof record || rest < sizeof record) return Next::fault;
    std::memcpy(&record, ring_.data() + at, sizeof record);
    if (record.bytes > kCapturePiece || record.length != length_of(record.bytes)) return Next::fault;
    if (record.length > there || record.length > rest || record.kind > CaptureKind::end) return Next::fault;
    bytes = {ring_.data() + at + sizeof record, record.bytes};
    read_ += record.length;
    return Next::record;
  }
}

}  // namespace rsock::wire
