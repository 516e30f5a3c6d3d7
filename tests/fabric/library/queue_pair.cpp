// Queue pairs: work requests are put into memory that the device reads.

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/fabric/library/verbs.hpp"

namespace fabric {
namespace {

// An errno, or 0.
int write_send(const QueuePair& queue_pair, const ibv_send_wr& from, SendWork& to) {
  to.work = from.wr_id;
  to.opcode = static_cast<uint32_t>(from.opcode);
  to.flags = from.send_flags;
  to.immediate = from.imm_data;
  to.remote = from.wr.rdma.remote_addr;
  to.key = from.wr.rdma.rkey;
  to.count = to.inline_bytes = 0;
  if (from.num_sge < 0 || static_cast<uint32_t>(from.num_sge) > queue_pair.room.max_send_sge) return EINVAL;
  for (int at = 0; at < from.num_sge; ++at) {
    const auto& piece = from.sg_list[at];
    if (from.send_flags & IBV_SEND_INLINE) {
      if (to.inline_bytes + piece.length > queue_pair.room.max_inline_data) return EINVAL;
      std::memcpy(to.bytes + to.inline_bytes, reinterpret_cast<const void*>(piece.addr), piece.length);
      to.inline_bytes += piece.length;
    } else {
      to.pieces[to.count++] = {piece.addr, piece.length, piece.lkey};
    }
  }
  return 0;
}

int write_receive(const QueuePair& queue_pair, const ibv_recv_wr& from, ReceiveWork& to) {
  to.work = from.wr_id;
  to.count = 0;
  if (from.num_sge < 0 || static_cast<uint32_t>(from.num_sge) > queue_pair.room.max_recv_sge) return EINVAL;
  for (int at = 0; at < from.num_sge; ++at)
    to.pieces[to.count++] = {from.sg_list[at].addr, from.sg_list[at].length, from.sg_list[at].lkey};
  return 0;
}

}  // namespace

int post_send(ibv_qp* given, ibv_send_wr* work, ibv_send_wr** bad) {
  auto& queue_pair = static_cast<QueuePair&>(*given);
  auto& context = of(queue_pair.context);
  const Locked locked(context.data_path);
  auto& queues = *queue_pair.memory.as<WorkQueues>();
  auto tail = queues.sent.load(std::memory_order_relaxed);
  int error = 0;
  for (; work; work = work->next) {
    error = queue_pair.sends_free == 0 ? ENOMEM : write_send(queue_pair, *work, queues.send(tail));
    if (error) break;
    --queue_pair.sends_free;
    queues.sent.store(++tail, std::memory_order_release);
  }
  if (error) *bad = work;
  context.ring();
  return error;
}

int post_receive(ibv_qp* given, ibv_recv_wr* work, ibv_recv_wr** bad) {
  auto& queue_pair = static_cast<QueuePair&>(*given);
  auto& context = of(queue_pair.context);
  const Locked locked(context.data_path);
  auto& queues = *queue_pair.memory.as<WorkQueues>();
  auto tail = queues.received.load(std::memory_order_relaxed);
  int error = 0;
  for (; work; work = work->next) {
    error = queue_pair.receives_free == 0 ? ENOMEM : write_receive(queue_pair, *work, queues.receive(tail));
    if (error) break;
    --queue_pair.receives_free;
    queues.received.store(++tail, std::memory_order_seq_cst);
  }
  if (error) *bad = work;
  if (queues.starves.exchange(0)) context.ring();
  return error;
}

ibv_qp* create_queue_pair(Domain& domain, ibv_qp_init_attr& attributes) {
  auto& context = of(domain.context);
  auto& cap = attributes.cap;
  if (attributes.qp_type != IBV_QPT_RC || !attributes.send_cq || !attributes.recv_cq || attributes.srq ||
      cap.max_send_sge > kMostPieces || cap.max_recv_sge > kMostPieces || cap.max_inline_data > kMostInline)
    return errno = EINVAL, nullptr;
  auto* queue_pair = made<QueuePair>();
  if (!queue_pair) return nullptr;
  const auto sends = std::bit_ceil(std::max(cap.max_send_wr, 1u)),
             receives = std::bit_ceil(std::max(cap.max_recv_wr, 1u));
  if (queue_pair->memory.make(WorkQueues::bytes(sends, receives))) {
    auto& queues = *queue_pair->memory.as<WorkQueues>();
    queues.sends = sends;
    queues.receives = receives;
    Request request;
    request.verb = Verb::create_queue_pair;
    request.domain = domain.number;
    request.queues[0] = static_cast<Queue*>(attributes.send_cq)->number;
    request.queues[1] = static_cast<Queue*>(attributes.recv_cq)->number;
    request.sends = sends;
    request.receives = receives;
    request.largest_inline = cap.max_inline_data;
    request.access = static_cast<uint32_t>(attributes.sq_sig_all);
    Answer answer;
    if (context.ask(request, answer, {queue_pair->memory.fd()})) {
      queue_pair->memory.let_go();
      queue_pair->context = &context;
      queue_pair->qp_context = attributes.qp_context;
      queue_pair->pd = &domain;
      queue_pair->send_cq = attributes.send_cq;
      queue_pair->recv_cq = attributes.recv_cq;
      queue_pair->qp_num = answer.number;
      queue_pair->state = IBV_QPS_INIT;
      queue_pair->qp_type = attributes.qp_type;
      queue_pair->number = answer.handle;
      cap.max_inline_data = answer.largest_inline;
      queue_pair->room = cap;
      queue_pair->sends_free = cap.max_send_wr;
      queue_pair->receives_free = cap.max_recv_wr;
      const Locked locked(context.data_path);
      queue_pair->next = std::exchange(context.queue_pairs, queue_pair);
      return queue_pair;
    }
    const int error = errno;
    queue_pair->memory.end();
    errno = error;
  }
  delete queue_pair;
  return nullptr;
}

int destroy_queue_pair(ibv_qp* given) {
  auto* queue_pair = static_cast<QueuePair*>(given);
  auto& context = of(queue_pair->context);
  if (!context.destroy(Verb::destroy_queue_pair, queue_pair->number)) return errno;
  {
    const Locked locked(context.data_path);
    auto** at = &context.queue_pairs;
    while (*at != queue_pair) at = &(*at)->next;
    *at = queue_pair->next;
  }
  queue_pair->memory.end();
  delete queue_pair;
  return 0;
}

}  // namespace fabric

using namespace fabric;

FABRIC_EXPORT int ibv_query_qp(ibv_qp* given, ibv_qp_attr* attributes, int, ibv_qp_init_attr* initial) {
  auto& queue_pair = static_cast<QueuePair&>(*given);
  Request request;
  request.verb = Verb::query_queue_pair;
  request.handle = queue_pair.number;
  Answer answer;
  if (!of(queue_pair.context).ask(request, answer)) return errno;
  *attributes = {};
  attributes->qp_state = attributes->cur_qp_state = static_cast<ibv_qp_state>(answer.handle);
  attributes->dest_qp_num = answer.number;
  attributes->cap = queue_pair.room;
  *initial = {};
  initial->send_cq = queue_pair.send_cq;
  initial->recv_cq = queue_pair.recv_cq;
  initial->qp_type = queue_pair.qp_type;
  initial->cap = queue_pair.room;
  return 0;
}
