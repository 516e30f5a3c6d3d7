#pragma once
// How a process hands the bytes of its lanes to `rsock capture`: a ring of records in memory that both map.
// One writer, the process, under its engine's lock; one reader.
//
//   0      CaptureHead
//   4096   the ring, a power of two: records, each of a multiple of 8 bytes, none across the end
//
// Positions count bytes since the beginning and never wrap: read <= written <= read + size. A record that has
// no room is lost, and counted; nobody waits. Where the rest of the ring is too short for the next record,
// its first 8 bytes say so: a length, and kSkip.
//
// Neither end believes what the other can write: the writer goes by a position of its own, and a reader takes
// each field once.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rsock::wire {

inline constexpr size_t kCaptureRing = 4096;                                // where it begins
inline constexpr uint64_t kCaptureLeast = 1 << 20, kCaptureMost = 1 << 30;  // bytes of a ring
inline constexpr uint32_t kCapturePiece = 32 << 10;                         // a record has no more bytes of a flow

struct CaptureHead {
  alignas(64) std::atomic<uint64_t> written;
  std::atomic<uint64_t> lost_records, lost_bytes;
  alignas(64) std::atomic<uint64_t> read;
  std::atomic<uint32_t> open;  // 1: the reader is there, and has had all pages made
};
static_assert(sizeof(CaptureHead) <= kCaptureRing && std::atomic<uint64_t>::is_always_lock_free);

enum class CaptureKind : uint8_t { data, end };  // `end`: the flow is closed

// As it lies in the ring; the bytes follow.
struct CaptureRecord {
  uint32_t length = 0;  // with the bytes, and up to a multiple of 8
  uint32_t bytes = 0;
  CaptureKind kind = CaptureKind::data;
  uint8_t outgoing = 0;  // 1: the program wrote them; 0: it read them
  uint8_t accepted = 0;  // 1: the flow was accepted here; 0: connected
  uint8_t v6 = 0;
  uint16_t local_port = 0, remote_port = 0;  // host order
  uint64_t time = 0;                         // nanoseconds since 1970
  uint64_t flow = 0;                         // its number in the process
  // Of the first byte, among all that the program wrote, or read, whatever carried them.
  uint64_t position = 0;
  std::array<uint8_t, 16> local{}, remote{};  // network order; IPv4 in the first four
};
static_assert(sizeof(CaptureRecord) == 72 && alignof(CaptureRecord) == 8);

class CaptureWriter {
 public:
  // `memory`: a page for the head, and a ring.
  explicit CaptureWriter(std::span<std::byte> memory);
  bool wanted() const { return head_.open.load(std::memory_order_acquire) != 0; }
  // Where the bytes of this record go, `record.bytes` of them. nullptr: there is no room, which is counted.
  std::byte* begin(CaptureRecord record);
  // They are there.
  void commit();

 private:
  CaptureHead& head_;
  const std::span<std::byte> ring_;
  uint64_t written_ = 0, begun_ = 0;
  uint64_t read_ = 0;  // as last seen
};

class CaptureReader {
 public:
  // As above; what the other process has put into it may be anything.
  explicit CaptureReader(std::span<std::byte> memory);
  static bool fits(size_t memory);
  void open() { head_.open.store(1, std::memory_order_release); }
  enum class Next { record, nothing, fault };
  // The bytes stay until take() or done(), but the other process may change them at any time.
  Next take(CaptureRecord& record, std::span<const std::byte>& bytes);
  // All that was taken makes room.
  void done() { head_.read.store(read_, std::memory_order_release); }
  uint64_t lost_records() const { return head_.lost_records.load(std::memory_order_relaxed); }
  uint64_t lost_bytes() const { return head_.lost_bytes.load(std::memory_order_relaxed); }

 private:
  CaptureHead& head_;
  const std::span<std::byte> ring_;
  uint64_t read_ = 0;
};

}  // namespace rsock::wire
