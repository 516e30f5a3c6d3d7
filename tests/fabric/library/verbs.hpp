#pragma once
// What the program holds in its hands: the structures of <infiniband/verbs.h> and <rdma/rdma_cma.h>, with
// what belongs to them. Of these functions, those that the data path does not need are in the files of their
// subjects: context.cpp, memory.cpp, completion.cpp, queue_pair.cpp, cm.cpp.

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <new>

#include "tests/fabric/library/line.hpp"

#define FABRIC_EXPORT extern "C" __attribute__((visibility("default")))

namespace fabric {

struct QueuePair;
struct Queue;

// The device, opened: one for a process, until the device is gone.
struct Context : ibv_context {
  static Context* get();  // nullptr and errno

  bool ask(Request& request, Answer& answer, std::initializer_list<int> descriptors = {}) {
    return line.ask(cmd_fd, request, answer, descriptors);
  }
  // What `verb` destroys; a device that has gone has nothing of it left. False: errno says why.
  bool destroy(Verb verb, uint64_t handle) {
    Request request;
    request.verb = verb;
    request.handle = handle;
    Answer answer;
    return ask(request, answer) || errno == ENODEV;
  }
  void ring() { line.ring(cmd_fd); }
  QueuePair* queue_pair(uint32_t number);  // data_path is held
  Queue* queue(uint64_t handle);
  ibv_pd* usual_domain();  // of whoever brings none of its own; nullptr and errno

  ibv_device itself{};
  Line line;
  bool removed = false;
  pthread_mutex_t data_path = PTHREAD_MUTEX_INITIALIZER;  // rings, and the two lists
  QueuePair* queue_pairs = nullptr;
  Queue* queues = nullptr;
  ibv_pd* usual = nullptr;
};

inline Context& of(ibv_context* context) { return static_cast<Context&>(*context); }

struct Domain : ibv_pd {
  uint64_t number = 0;
};

struct Region : ibv_mr {
  uint64_t number = 0;
};

struct CompletionChannel : ibv_comp_channel {
  uint64_t number = 0;
};

struct Queue : ibv_cq {
  uint64_t number = 0;
  Queue* next = nullptr;
  Shared memory;
  uint32_t events = 0;  // that were given out
};

struct QueuePair : ibv_qp {
  uint64_t number = 0;
  QueuePair* next = nullptr;
  Shared memory;
  ibv_qp_cap room{};
  // Places that a completion, polled, has given back.
  uint32_t sends_free = 0, receives_free = 0;
};

// Makes one of these; nullptr and ENOMEM.
template <class Type>
Type* made() {
  auto* object = new (std::nothrow) Type{};
  if (!object) errno = ENOMEM;
  return object;
}

// A use that verbs forbids, and for which rdma-core would wait for ever, or worse.
[[noreturn]] void misused(const char* what);

int poll(ibv_cq* queue, int capacity, ibv_wc* completions);
int request_notification(ibv_cq* queue, int solicited_only);
int post_send(ibv_qp* queue_pair, ibv_send_wr* work, ibv_send_wr** bad);
int post_receive(ibv_qp* queue_pair, ibv_recv_wr* work, ibv_recv_wr** bad);

ibv_qp* create_queue_pair(Domain& domain, ibv_qp_init_attr& attributes);
int destroy_queue_pair(ibv_qp* queue_pair);

}  // namespace fabric
