// Completion queues and channels. Completions are in memory that the device writes; a channel is the end of a
// pipe, from which the number of a queue is read that was armed and has got one.

#include <fcntl.h>
#include <sys/syscall.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "tests/fabric/library/verbs.hpp"

namespace fabric {

int request_notification(ibv_cq* queue, int) {
  auto& ring = *static_cast<Queue*>(queue)->memory.as<CompletionQueue>();
  ring.armed.store(1);
  return 0;
}

// The places of all requests up to that of this completion are free.
static void give_places(Context& context, const Completion& from) {
  auto* queue_pair = context.queue_pair(from.queue_pair);
  if (!queue_pair) return;
  auto& work = *queue_pair->memory.as<WorkQueues>();
  auto& tail = from.is_send ? work.sent : work.received;
  (from.is_send ? queue_pair->sends_free : queue_pair->receives_free) =
      (from.is_send ? queue_pair->room.max_send_wr : queue_pair->room.max_recv_wr) - (tail.load() - from.position - 1);
}

int poll(ibv_cq* queue, int capacity, ibv_wc* completions) {
  auto& context = of(queue->context);
  const Locked locked(context.data_path);
  auto& ring = *static_cast<Queue*>(queue)->memory.as<CompletionQueue>();
  int found = 0;
  auto head = ring.head.load(std::memory_order_relaxed);
  for (const auto tail = ring.tail.load(std::memory_order_acquire); head != tail && found < capacity; ++head, ++found) {
    const auto& from = ring.at(head);
    auto& to = completions[found];
    to = {};
    to.wr_id = from.work;
    to.status = static_cast<ibv_wc_status>(from.status);
    to.opcode = static_cast<ibv_wc_opcode>(from.opcode);
    to.byte_len = from.bytes;
    to.imm_data = from.immediate;
    to.qp_num = from.queue_pair;
    to.src_qp = from.peer;
    to.wc_flags = from.flags;
    give_places(context, from);
  }
  ring.head.store(head, std::memory_order_release);
  return found;
}

}  // namespace fabric

using namespace fabric;

FABRIC_EXPORT ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  auto* channel = made<CompletionChannel>();
  if (!channel) return nullptr;
  int ends[2];
  if (call(SYS_pipe2, ends, O_CLOEXEC) == 0) {
    Request request;
    request.verb = Verb::create_completion_channel;
    Answer answer;
    const bool good = of(context).ask(request, answer, {ends[1]});
    const int error = errno;
    call(SYS_close, ends[1]);
    if (good) {
      channel->context = context;
      channel->fd = ends[0];
      channel->number = answer.handle;
      return channel;
    }
    call(SYS_close, ends[0]);
    errno = error;
  }
  delete channel;
  return nullptr;
}

FABRIC_EXPORT int ibv_destroy_comp_channel(ibv_comp_channel* given) {
  auto* channel = static_cast<CompletionChannel*>(given);
  if (!of(channel->context).destroy(Verb::destroy_completion_channel, channel->number)) return errno;
  call(SYS_close, channel->fd);
  delete channel;
  return 0;
}

FABRIC_EXPORT ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* named, ibv_comp_channel* channel, int) {
  auto* queue = made<Queue>();
  if (!queue) return nullptr;
  const auto size = std::bit_ceil(static_cast<uint32_t>(entries));
  if (queue->memory.make(CompletionQueue::bytes(size))) {
    queue->memory.as<CompletionQueue>()->size = size;
    Request request;
    request.verb = Verb::create_queue;
    request.size = size;
    request.queues[0] = channel ? static_cast<CompletionChannel*>(channel)->number : 0;
    Answer answer;
    if (of(context).ask(request, answer, {queue->memory.fd()})) {
      queue->memory.let_go();
      queue->context = context;
      queue->channel = channel;
      queue->cq_context = named;
      queue->cqe = static_cast<int>(size);
      queue->number = answer.handle;
      const Locked locked(of(context).data_path);
      queue->next = std::exchange(of(context).queues, queue);
      return queue;
    }
    const int error = errno;
    queue->memory.end();
    errno = error;
  }
  delete queue;
  return nullptr;
}

FABRIC_EXPORT int ibv_destroy_cq(ibv_cq* given) {
  auto* queue = static_cast<Queue*>(given);
  auto& context = of(queue->context);
  if (queue->events != queue->comp_events_completed)
    misused("a completion queue has an event that is not acknowledged");
  if (!context.destroy(Verb::destroy_queue, queue->number)) return errno;
  {
    const Locked locked(context.data_path);
    auto** at = &context.queues;
    while (*at != queue) at = &(*at)->next;
    *at = queue->next;
  }
  queue->memory.end();
  delete queue;
  return 0;
}

FABRIC_EXPORT int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** queue, void** named) {
  for (;;) {
    uint64_t number = 0;
    const long got = call(SYS_read, channel->fd, &number, sizeof number);
    if (got != sizeof number) {
      if (got >= 0) errno = EAGAIN;
      return -1;
    }
    auto& context = of(channel->context);
    const Locked locked(context.data_path);
    auto* found = context.queue(number);
    if (!found) continue;  // it is destroyed
    ++found->events;
    *queue = found;
    *named = found->cq_context;
    return 0;
  }
}

FABRIC_EXPORT void ibv_ack_cq_events(ibv_cq* queue, unsigned count) { queue->comp_events_completed += count; }
