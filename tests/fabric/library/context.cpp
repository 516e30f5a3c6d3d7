// The device, opened, and what it says of itself.

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "tests/fabric/library/verbs.hpp"

namespace fabric {
namespace {

pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
Context* opened = nullptr;

void close_all(std::initializer_list<int> descriptors) {
  const int error = errno;
  for (const int fd : descriptors)
    if (fd >= 0) call(SYS_close, fd);
  errno = error;
}

// By libc's name for it, as rdma-core does: these numbers the program may have given to something else.
void close_removed(Context* context) {
  ::close(context->cmd_fd);
  ::close(context->async_fd);
  delete context;
}

Context* open_device() {
  auto* context = made<Context>();
  if (!context) return nullptr;
  int events[2] = {-1, -1};
  // Not that of a process which was another user's; then the device opens it.
  const int memory = static_cast<int>(call(SYS_open, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0));
  if (call(SYS_pipe2, events, O_CLOEXEC) == 0 &&
      (memory >= 0 ? context->line.open(context->cmd_fd, Verb::open_context, {events[1], memory})
                   : context->line.open(context->cmd_fd, Verb::open_context, {events[1]}))) {
    close_all({memory, events[1]});
    context->async_fd = events[0];
    context->num_comp_vectors = 1;
    context->device = &context->itself;
    context->ops.poll_cq = poll;
    context->ops.req_notify_cq = request_notification;
    context->ops.post_send = post_send;
    context->ops.post_recv = post_receive;
    context->itself.node_type = IBV_NODE_CA;
    context->itself.transport_type = IBV_TRANSPORT_IB;
    std::snprintf(context->itself.name, sizeof context->itself.name, "fabric0");
    std::snprintf(context->itself.dev_name, sizeof context->itself.dev_name, "uverbs0");
    return context;
  }
  close_all({memory, events[0], events[1]});
  delete context;
  return nullptr;
}

}  // namespace

void misused(const char* what) {
  std::fprintf(stderr, "fabric: %s\n", what);
  std::abort();
}

Context* Context::get() {
  const Locked locked(opening);
  if (opened && !opened->removed) return opened;
  auto* fresh = open_device();
  if (!fresh) return nullptr;
  if (opened) close_removed(opened);
  return opened = fresh;
}

QueuePair* Context::queue_pair(uint32_t number_of_it) {
  auto* at = queue_pairs;
  while (at && at->qp_num != number_of_it) at = at->next;
  return at;
}

Queue* Context::queue(uint64_t handle) {
  auto* at = queues;
  while (at && at->number != handle) at = at->next;
  return at;
}

}  // namespace fabric

using namespace fabric;

FABRIC_EXPORT int ibv_query_device(ibv_context*, ibv_device_attr* limits) {
  *limits = {};
  limits->max_mr_size = UINT64_MAX;
  limits->max_qp = limits->max_cq = limits->max_mr = limits->max_pd = 1 << 16;
  limits->max_qp_wr = 1 << 14;
  limits->max_sge = kMostPieces;
  limits->max_cqe = 1 << 20;
  limits->phys_port_cnt = 1;
  return 0;
}

FABRIC_EXPORT int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  AsyncEvent told;
  const long got = call(SYS_read, context->async_fd, &told, sizeof told);
  if (got != sizeof told) {
    if (got >= 0) errno = EAGAIN;
    return -1;
  }
  const Locked locked(of(context).data_path);
  *event = {};
  event->event_type = static_cast<ibv_event_type>(told.type);
  switch (event->event_type) {
    case IBV_EVENT_CQ_ERR: event->element.cq = of(context).queue(told.handle); break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      event->element.qp = of(context).queue_pair(static_cast<uint32_t>(told.handle));
      break;
    default: event->element.port_num = static_cast<int>(told.handle);
  }
  return 0;
}

FABRIC_EXPORT void ibv_ack_async_event(ibv_async_event*) {}
