#pragma once
// rdma-core, loaded when the first flow needs it: a process without selected flows pays nothing for it, and a host
// without it keeps its flows on TCP. Names are as in verbs(7) and rdma_cm(7); the data path (post, poll, notify) needs
// no symbol, since the headers go through the device's own table.
//
// rdma-core keeps for the process what it has opened, and takes it for its own in a child of fork, where it is the
// parent's: a context is used by numbers that the kernel knows, so that whatever the child did with it would be done to
// the parent. Such a child leaves that copy alone and loads another, in a namespace of its own (dlmopen(3)): code and
// data of librdmacm, libibverbs, the provider, and of the libc that these use. Its errno is another, too.

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

namespace rsock::fabric::verbs {

// One list: what is looked up in librdmacm.so.1 (which brings libibverbs.so.1 with it).
// clang-format off
#define RSOCK_VERBS_SYMBOLS(X)                                                                              \
  X(ibv_alloc_pd) X(ibv_dealloc_pd) X(ibv_dereg_mr) X(ibv_create_cq) X(ibv_destroy_cq)                      \
  X(ibv_create_comp_channel) X(ibv_destroy_comp_channel) X(ibv_get_cq_event) X(ibv_ack_cq_events)           \
  X(ibv_get_async_event) X(ibv_ack_async_event) X(ibv_query_device) X(ibv_query_qp)                         \
  X(rdma_create_event_channel) X(rdma_destroy_event_channel) X(rdma_create_id) X(rdma_destroy_id)           \
  X(rdma_bind_addr) X(rdma_listen) X(rdma_resolve_addr) X(rdma_resolve_route) X(rdma_connect) X(rdma_accept)\
  X(rdma_reject) X(rdma_disconnect) X(rdma_create_qp) X(rdma_destroy_qp) X(rdma_get_cm_event)               \
  X(rdma_ack_cm_event) X(rdma_set_option)
// clang-format on

struct Library {
#define RSOCK_VERBS_POINTER(name) decltype(&::name) name;
  RSOCK_VERBS_SYMBOLS(RSOCK_VERBS_POINTER)
#undef RSOCK_VERBS_POINTER
  // ibv_reg_mr is a macro in the header; this is the function of that name.
  ibv_mr* (*reg_mr)(ibv_pd* pd, void* address, size_t length, int access);
  int* (*errno_of_libc)();
  // The errno of the last call that failed, in this thread.
  int error() const { return *errno_of_libc(); }
};

// nullptr if rdma-core cannot be loaded. The first call loads it; service thread only. Never unloaded.
const Library* library();
// A device is opened: children of this process cannot use the copy that is loaded.
void device_is_opened();
// In a child of fork, before it has other threads.
void library_forked();
// Takes a descriptor that rdma-core has made out of the program's way, and keeps its number from it: `fd` is where
// rdma-core itself looks it up, in a structure of its interface, and nothing waits for it yet.
void adopt(int& fd);

}  // namespace rsock::fabric::verbs
