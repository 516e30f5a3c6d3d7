#include "tests/fabric/device/queue_pair.hpp"

#include <algorithm>

namespace fabric {
namespace {

constexpr int kTurn = 64;  // work requests of one queue pair, before another has its turn
// As long as a sender repeats what is not acknowledged.
constexpr auto kPatience = milliseconds(1000);

bool needs_receive(uint32_t opcode) { return opcode != IBV_WR_RDMA_WRITE; }
bool has_immediate(uint32_t opcode) { return opcode == IBV_WR_RDMA_WRITE_WITH_IMM || opcode == IBV_WR_SEND_WITH_IMM; }
bool is_write(uint32_t opcode) { return opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM; }

}  // namespace

QueuePair* Wire::find(uint32_t number) const {
  const auto found = all_.find(number);
  return found == all_.end() ? nullptr : found->second;
}

uint32_t Wire::enlist(QueuePair& queue_pair) {
  all_[++last_] = &queue_pair;
  return last_;
}

void Wire::wake(uint32_t number) {
  if (!ready_.try_emplace(number, true).second) return;
  loop_.soon([this, number] {
    ready_.erase(number);
    auto* queue_pair = find(number);
    if (queue_pair && queue_pair->progress()) wake(number);
  });
}

QueuePair::QueuePair(Wire& wire, Parts parts) : wire_(wire), parts_(std::move(parts)), number_(wire.enlist(*this)) {}

QueuePair::~QueuePair() {
  if (!wire_.chance.cleans()) flush();
  wire_.strike(number_);
  wire_.wake(peer_);
}

void QueuePair::connect(uint32_t peer) {
  if (state_ != IBV_QPS_INIT) return;
  peer_ = peer;
  state_ = IBV_QPS_RTS;
  wire_.wake(number_);
  wire_.wake(peer_);
}

void QueuePair::break_off() {
  if (state_ == IBV_QPS_ERR) return;
  state_ = IBV_QPS_ERR;
  flush();
  wire_.wake(peer_);
}

void QueuePair::rung() {
  wire_.wake(number_);
  wire_.wake(peer_);  // may be what waited for a receive
}

bool QueuePair::progress() {
  if (state_ == IBV_QPS_ERR) flush();
  if (state_ != IBV_QPS_RTS) return false;
  auto& queues = parts_.work.as<WorkQueues>();
  for (int turn = 0; turn < kTurn; ++turn) {
    if (queues.sent.load() == sends_done_) return false;
    auto& work = queues.send(sends_done_);
    if (wire_.chance.breaks()) {
      (void)fail(work, IBV_WC_RETRY_EXC_ERR);
      return false;
    }
    switch (execute(work)) {
      case Outcome::done: ++sends_done_; break;
      case Outcome::waits:
      case Outcome::failed: return false;
    }
  }
  return true;
}

QueuePair::Outcome QueuePair::execute(SendWork& work) {
  auto* peer = wire_.find(peer_);
  if (!peer || peer->state_ == IBV_QPS_ERR || peer->peer_ != number_) {
    if (peer && peer->state_ == IBV_QPS_INIT) return Outcome::waits;
    return fail(work, IBV_WC_RETRY_EXC_ERR);
  }
  if (const auto outcome = await_end_of_silence(*peer, work); outcome != Outcome::done) return outcome;
  static std::vector<uint8_t> bytes;
  if (!gather(work, bytes)) return fail(work, IBV_WC_LOC_PROT_ERR);
  return deliver(*peer, work, bytes);
}

// What is under way is sent again and again, and then given up.
QueuePair::Outcome QueuePair::await_end_of_silence(const QueuePair& peer, const SendWork& work) {
  const auto now = Clock::now();
  if (sends_begun_ == sends_done_) {  // the dice are rolled once for each work request
    ++sends_begun_;
    if (const auto pause = std::max(wire_.chance.silence(), wire_.chance.delay()); pause != Duration::zero())
      mute(pause);
    patient_until_ = now + kPatience;
  }
  const auto silent_until = std::max(silent_until_, peer.silent_until_);
  if (now >= silent_until) return Outcome::done;
  if (now >= patient_until_) return fail(work, IBV_WC_RETRY_EXC_ERR);
  if (wakes_ <= now) {
    wakes_ = std::min(silent_until, patient_until_);
    wire_.after(wakes_ - now, number_);
  }
  return Outcome::waits;
}

// What the peer's device does.
QueuePair::Outcome QueuePair::deliver(QueuePair& to, const SendWork& work, std::span<const uint8_t> bytes) {
  if (work.opcode > IBV_WR_SEND_WITH_IMM) return fail(work, IBV_WC_REM_INV_REQ_ERR);
  if (needs_receive(work.opcode) && !to.has_receive()) return Outcome::waits;
  if (is_write(work.opcode) && !bytes.empty()) {
    const auto& memory = *to.parts_.memory;
    if (!memory.remote(work.key, to.parts_.domain, work.remote, bytes.size(), IBV_ACCESS_REMOTE_WRITE)) {
      to.parts_.tell(IBV_EVENT_QP_ACCESS_ERR, to.number_);
      to.break_off();
      return fail(work, IBV_WC_REM_ACCESS_ERR);
    }
    if (!memory.write(work.remote, bytes)) return fail(work, IBV_WC_RETRY_EXC_ERR);  // its process has ended
  }
  if (needs_receive(work.opcode)) {
    const auto outcome = to.consume_receive(*this, work, bytes, !is_write(work.opcode));
    if (outcome != Outcome::done) return outcome;
  }
  if (parts_.all_signaled || work.flags & IBV_SEND_SIGNALED) complete_send(work, IBV_WC_SUCCESS);
  return Outcome::done;
}

QueuePair::Outcome QueuePair::consume_receive(QueuePair& from, const SendWork& work, std::span<const uint8_t> bytes,
                                              bool into_it) {
  const auto& receive = parts_.work.as<WorkQueues>().receive(receives_done_);
  uint64_t room = 0;
  for (uint32_t at = 0; at < receive.count; ++at) room += receive.pieces[at].length;
  Completion completion;
  completion.opcode = into_it ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM;
  completion.bytes = static_cast<uint32_t>(bytes.size());
  const auto refuse = [&](ibv_wc_status here, ibv_wc_status there) {
    completion.status = here;
    complete_receive(receive, completion);
    ++receives_done_;
    break_off();
    return from.fail(work, there);
  };
  if (wire_.chance.receive_fails()) return refuse(IBV_WC_LOC_QP_OP_ERR, IBV_WC_REM_OP_ERR);
  if (into_it && room < bytes.size()) return refuse(IBV_WC_LOC_LEN_ERR, IBV_WC_REM_INV_REQ_ERR);
  if (into_it && !scatter(receive, bytes)) return refuse(IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR);
  if (has_immediate(work.opcode)) {
    completion.immediate = work.immediate;
    completion.flags = IBV_WC_WITH_IMM;
  }
  complete_receive(receive, completion);
  ++receives_done_;
  return Outcome::done;
}

QueuePair::Outcome QueuePair::fail(const SendWork& work, ibv_wc_status status) {
  complete_send(work, status);
  ++sends_done_;
  break_off();
  return Outcome::failed;
}

bool QueuePair::gather(const SendWork& work, std::vector<uint8_t>& bytes) const {
  bytes.assign(work.bytes, work.bytes + std::min(work.inline_bytes, kMostInline));
  for (uint32_t at = 0; at < std::min(work.count, kMostPieces); ++at) {
    const auto& piece = work.pieces[at];
    if (piece.length == 0) continue;
    if (!parts_.memory->local(piece.key, parts_.domain, piece.address, piece.length, 0)) return false;
    const auto begin = bytes.size();
    bytes.resize(begin + piece.length);
    if (!parts_.memory->read(piece.address, std::span(bytes).subspan(begin))) return false;
  }
  return true;
}

bool QueuePair::scatter(const ReceiveWork& work, std::span<const uint8_t> bytes) const {
  for (uint32_t at = 0; at < std::min(work.count, kMostPieces) && !bytes.empty(); ++at) {
    const auto& piece = work.pieces[at];
    const auto part = bytes.first(std::min<size_t>(piece.length, bytes.size()));
    if (!parts_.memory->local(piece.key, parts_.domain, piece.address, part.size(), IBV_ACCESS_LOCAL_WRITE))
      return false;
    if (!parts_.memory->write(piece.address, part)) return false;
    bytes = bytes.subspan(part.size());
  }
  return true;
}

// What is asked for comes late, or it is there.
bool QueuePair::has_receive() {
  auto& queues = parts_.work.as<WorkQueues>();
  if (queues.received.load() != receives_done_) return true;
  queues.starves.store(1);
  return queues.received.load() != receives_done_;
}

void QueuePair::complete_send(const SendWork& work, ibv_wc_status status) {
  Completion completion;
  completion.work = work.work;
  completion.status = status;
  completion.opcode = is_write(work.opcode) ? IBV_WC_RDMA_WRITE : IBV_WC_SEND;
  completion.queue_pair = number_;
  completion.peer = peer_;
  completion.position = sends_done_;
  completion.is_send = true;
  parts_.send_queue->push(completion);
}

void QueuePair::complete_receive(const ReceiveWork& work, Completion completion) {
  completion.work = work.work;
  completion.queue_pair = number_;
  completion.peer = peer_;
  completion.position = receives_done_;
  parts_.receive_queue->push(completion);
}

// What is posted from now on wants the bell as well.
void QueuePair::flush() {
  auto& queues = parts_.work.as<WorkQueues>();
  queues.starves.store(1);
  for (; sends_done_ != queues.sent.load(); ++sends_done_) complete_send(queues.send(sends_done_), IBV_WC_WR_FLUSH_ERR);
  for (; receives_done_ != queues.received.load(); ++receives_done_) {
    Completion completion;
    completion.status = IBV_WC_WR_FLUSH_ERR;
    completion.opcode = IBV_WC_RECV;
    complete_receive(queues.receive(receives_done_), completion);
  }
}

}  // namespace fabric
