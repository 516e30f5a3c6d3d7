// The fabric by itself: what verbs and the connection manager promise. Needs a device
// (tests/fabric/selftest).
#define CATCH_CONFIG_MAIN
#include <arpa/inet.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>

namespace {

constexpr int kPatienceMs = 10'000;
constexpr uint32_t kDepth = 4;

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

sockaddr* generic(sockaddr_in& address) { return reinterpret_cast<sockaddr*>(&address); }

bool readable(int fd, int ms) {
  pollfd what{fd, POLLIN, 0};
  return poll(&what, 1, ms) == 1;
}

// An event channel, and one end of a connection on it, with a KiB of memory.
struct End {
  End() : channel(rdma_create_event_channel()) { REQUIRE(channel); }

  rdma_cm_event_type next(rdma_cm_id** from = nullptr) {
    rdma_cm_event* event = nullptr;
    REQUIRE(readable(channel->fd, kPatienceMs));
    REQUIRE(rdma_get_cm_event(channel, &event) == 0);
    const auto type = event->event;
    status = event->status;
    data.assign(static_cast<const char*>(event->param.conn.private_data), event->param.conn.private_data_len);
    if (from) *from = event->id;
    REQUIRE(rdma_ack_cm_event(event) == 0);
    return type;
  }

  uint16_t listen(uint16_t port = 0) {
    auto address = loopback(port);
    REQUIRE(rdma_create_id(channel, &listener, nullptr, RDMA_PS_TCP) == 0);
    if (rdma_bind_addr(listener, generic(address)) != 0) return 0;
    REQUIRE(rdma_listen(listener, 4) == 0);
    return ntohs(listener->route.addr.src_sin.sin_port);
  }

  void resolve(uint16_t port) {
    auto to = loopback(port), from = loopback(0);
    REQUIRE(rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP) == 0);
    REQUIRE(rdma_resolve_addr(id, generic(from), generic(to), 1000) == 0);
    REQUIRE(next() == RDMA_CM_EVENT_ADDR_RESOLVED);
    REQUIRE(rdma_resolve_route(id, 1000) == 0);
    REQUIRE(next() == RDMA_CM_EVENT_ROUTE_RESOLVED);
    equip();
  }

  void equip() {
    REQUIRE((domain = ibv_alloc_pd(id->verbs)));
    REQUIRE((region = ibv_reg_mr(domain, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)));
    REQUIRE((completions = ibv_create_comp_channel(id->verbs)));
    REQUIRE((queue = ibv_create_cq(id->verbs, 4 * kDepth, nullptr, completions, 0)));
    ibv_qp_init_attr attributes{};
    attributes.qp_type = IBV_QPT_RC;
    attributes.send_cq = attributes.recv_cq = queue;
    attributes.cap = {kDepth, kDepth, 1, 1, 0};
    REQUIRE(rdma_create_qp(id, domain, &attributes) == 0);
  }

  int connect(const char* words) {
    rdma_conn_param with{};
    with.private_data = words;
    with.private_data_len = static_cast<uint8_t>(std::strlen(words));
    return rdma_connect(id, &with);
  }

  void accept(const char* words) {
    rdma_conn_param with{};
    with.private_data = words;
    with.private_data_len = static_cast<uint8_t>(std::strlen(words));
    REQUIRE(rdma_accept(id, &with) == 0);
  }

  int receive(uint64_t work, uint32_t size = 64) {
    ibv_sge piece{reinterpret_cast<uintptr_t>(memory), size, region->lkey};
    ibv_recv_wr request{}, *bad = nullptr;
    request.wr_id = work;
    request.sg_list = &piece;
    request.num_sge = 1;
    return ibv_post_recv(id->qp, &request, &bad);
  }

  int send(ibv_wr_opcode opcode, uint64_t work, const char* words, uint64_t remote = 0, uint32_t key = 0) {
    std::strcpy(memory + 512, words);
    ibv_sge piece{reinterpret_cast<uintptr_t>(memory + 512), static_cast<uint32_t>(std::strlen(words)), region->lkey};
    ibv_send_wr request{}, *bad = nullptr;
    request.wr_id = work;
    request.opcode = opcode;
    request.imm_data = htonl(4711);
    request.sg_list = &piece;
    request.num_sge = 1;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = remote;
    request.wr.rdma.rkey = key;
    return ibv_post_send(id->qp, &request, &bad);
  }

  int write(uint64_t work, const char* words, const End& to, size_t at) {
    return send(IBV_WR_RDMA_WRITE_WITH_IMM, work, words, reinterpret_cast<uintptr_t>(to.memory) + at, to.region->rkey);
  }

  ibv_wc completion() {
    ibv_wc found{};
    for (;;) {
      if (ibv_poll_cq(queue, 1, &found) == 1) return found;
      ibv_req_notify_cq(queue, 0);
      if (ibv_poll_cq(queue, 1, &found) == 1) return found;
      ibv_cq* which = nullptr;
      void* context = nullptr;
      REQUIRE(readable(completions->fd, kPatienceMs));
      REQUIRE(ibv_get_cq_event(completions, &which, &context) == 0);
      REQUIRE(which == queue);
      ibv_ack_cq_events(queue, 1);
    }
  }

  void end() {
    if (id) {
      if (id->qp) rdma_destroy_qp(id);
      if (queue) REQUIRE(ibv_destroy_cq(queue) == 0);
      if (completions) REQUIRE(ibv_destroy_comp_channel(completions) == 0);
      if (region) REQUIRE(ibv_dereg_mr(region) == 0);
      if (domain) REQUIRE(ibv_dealloc_pd(domain) == 0);
      REQUIRE(rdma_destroy_id(id) == 0);
    }
    if (listener) REQUIRE(rdma_destroy_id(listener) == 0);
    rdma_destroy_event_channel(channel);
  }

  rdma_event_channel* channel;
  rdma_cm_id *listener = nullptr, *id = nullptr;
  ibv_pd* domain = nullptr;
  ibv_mr* region = nullptr;
  ibv_comp_channel* completions = nullptr;
  ibv_cq* queue = nullptr;
  char memory[1024]{};
  int status = 0;
  std::string data;
};

struct Connected {
  Connected() {
    dials.resolve(takes.listen());
    REQUIRE(dials.connect("who") == 0);
    REQUIRE(takes.next(&takes.id) == RDMA_CM_EVENT_CONNECT_REQUEST);
    CHECK(std::strcmp(takes.data.c_str(), "who") == 0);
    CHECK(takes.data.size() == 56);
    CHECK(takes.id->route.addr.dst_sin.sin_port == dials.id->route.addr.src_sin.sin_port);
    takes.equip();
    for (uint64_t work = 1; work <= kDepth; ++work) REQUIRE(takes.receive(work) == 0);
    takes.accept("me");
    REQUIRE(dials.next() == RDMA_CM_EVENT_ESTABLISHED);
    CHECK(std::strcmp(dials.data.c_str(), "me") == 0);
    REQUIRE(takes.next() == RDMA_CM_EVENT_ESTABLISHED);
  }
  void end() {
    dials.end();
    takes.end();
  }
  End takes, dials;
};

}  // namespace

// The first: the child opens the device itself.
TEST_CASE("a process that is killed") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const auto child = fork();
  if (child == 0) {
    uint16_t port = 0;
    if (read(ends[0], &port, sizeof port) != sizeof port) _exit(1);
    auto* dials = new End;
    dials->resolve(port);
    dials->connect("who");
    dials->next();
    pause();
    _exit(0);
  }
  End takes;
  const auto port = takes.listen();
  REQUIRE(write(ends[1], &port, sizeof port) == sizeof port);
  REQUIRE(takes.next(&takes.id) == RDMA_CM_EVENT_CONNECT_REQUEST);
  takes.equip();
  takes.accept("me");
  REQUIRE(takes.next() == RDMA_CM_EVENT_ESTABLISHED);
  REQUIRE(kill(child, SIGKILL) == 0);
  CHECK(takes.next() == RDMA_CM_EVENT_DISCONNECTED);
  REQUIRE(takes.send(IBV_WR_SEND, 1, "x") == 0);
  CHECK(takes.completion().status == IBV_WC_RETRY_EXC_ERR);
  CHECK(waitpid(child, nullptr, 0) == child);
  takes.end();
  for (const int fd : ends) close(fd);
}

TEST_CASE("nobody listens: rejected") {
  End end;
  end.resolve(9);
  REQUIRE(end.connect("who") == 0);
  REQUIRE(end.next() == RDMA_CM_EVENT_REJECTED);
  CHECK(end.status == 8);
  end.end();
}

TEST_CASE("whoever listens may refuse, and say why") {
  End takes, dials;
  dials.resolve(takes.listen());
  REQUIRE(dials.connect("who") == 0);
  REQUIRE(takes.next(&takes.id) == RDMA_CM_EVENT_CONNECT_REQUEST);
  REQUIRE(rdma_reject(takes.id, "no", 2) == 0);
  REQUIRE(dials.next() == RDMA_CM_EVENT_REJECTED);
  CHECK(dials.status == 28);
  CHECK(std::strcmp(dials.data.c_str(), "no") == 0);
  dials.end();
  takes.end();
}

TEST_CASE("a name is one listener's, and free again afterwards") {
  End first, second, third;
  const auto port = first.listen();
  CHECK(second.listen(port) == 0);
  CHECK(errno == EADDRINUSE);
  first.end();
  CHECK(third.listen(port) == port);
  second.end();
  third.end();
}

TEST_CASE("an address that is not this host's") {
  End end;
  sockaddr_in address = loopback(0);
  address.sin_addr.s_addr = inet_addr("192.0.2.1");
  REQUIRE(rdma_create_id(end.channel, &end.listener, nullptr, RDMA_PS_TCP) == 0);
  CHECK(rdma_bind_addr(end.listener, generic(address)) == -1);
  CHECK(errno == EADDRNOTAVAIL);
  end.end();
}

TEST_CASE("a message consumes a receive; completions come in order") {
  Connected both;
  REQUIRE(both.dials.send(IBV_WR_SEND, 7, "hello") == 0);
  const auto got = both.takes.completion();
  CHECK(got.status == IBV_WC_SUCCESS);
  CHECK(got.opcode == IBV_WC_RECV);
  CHECK(got.wr_id == 1);
  CHECK(got.byte_len == 5);
  CHECK(std::memcmp(both.takes.memory, "hello", 5) == 0);
  const auto sent = both.dials.completion();
  CHECK(sent.wr_id == 7);
  CHECK(sent.opcode == IBV_WC_SEND);
  both.end();
}

TEST_CASE("a write lands where it was told, with its immediate") {
  Connected both;
  REQUIRE(both.dials.write(8, "bytes", both.takes, 100) == 0);
  const auto got = both.takes.completion();
  CHECK(got.opcode == IBV_WC_RECV_RDMA_WITH_IMM);
  CHECK(ntohl(got.imm_data) == 4711);
  CHECK(got.byte_len == 5);
  CHECK(std::memcmp(both.takes.memory + 100, "bytes", 5) == 0);
  CHECK(both.dials.completion().opcode == IBV_WC_RDMA_WRITE);
  both.end();
}

TEST_CASE("a message waits for a receive") {
  Connected both;
  for (uint64_t work = 1; work <= kDepth; ++work) {
    REQUIRE(both.dials.send(IBV_WR_SEND, work, "x") == 0);
    CHECK(both.dials.completion().wr_id == work);
    CHECK(both.takes.completion().wr_id == work);
  }
  REQUIRE(both.dials.send(IBV_WR_SEND, 9, "late") == 0);
  ibv_wc none{};
  ibv_req_notify_cq(both.dials.queue, 0);
  CHECK_FALSE(readable(both.dials.completions->fd, 20));
  CHECK(ibv_poll_cq(both.dials.queue, 1, &none) == 0);
  REQUIRE(both.takes.receive(10) == 0);
  CHECK(both.takes.completion().wr_id == 10);
  REQUIRE(readable(both.dials.completions->fd, kPatienceMs));
  ibv_cq* which = nullptr;
  void* context = nullptr;
  REQUIRE(ibv_get_cq_event(both.dials.completions, &which, &context) == 0);
  ibv_ack_cq_events(which, 1);
  CHECK(both.dials.completion().wr_id == 9);
  both.end();
}

TEST_CASE("no more is taken than there is room for") {
  Connected both;
  for (uint64_t work = 1; work <= kDepth; ++work) REQUIRE(both.dials.send(IBV_WR_SEND, work, "x") == 0);
  CHECK(both.dials.send(IBV_WR_SEND, 9, "x") == ENOMEM);
  CHECK(both.dials.completion().wr_id == 1);
  CHECK(both.dials.send(IBV_WR_SEND, 9, "x") == 0);
  both.end();
}

TEST_CASE("a wrong key breaks the connection; what is left is flushed") {
  Connected both;
  REQUIRE(both.dials.send(IBV_WR_RDMA_WRITE_WITH_IMM, 1, "x", reinterpret_cast<uintptr_t>(both.takes.memory),
                          both.takes.region->rkey + 1) == 0);
  REQUIRE(both.dials.send(IBV_WR_SEND, 2, "x") == 0);
  CHECK(both.dials.completion().status == IBV_WC_REM_ACCESS_ERR);
  CHECK(both.dials.completion().status == IBV_WC_WR_FLUSH_ERR);
  for (uint64_t work = 1; work <= kDepth; ++work) CHECK(both.takes.completion().status == IBV_WC_WR_FLUSH_ERR);
  ibv_async_event event{};
  REQUIRE(ibv_get_async_event(both.takes.id->verbs, &event) == 0);
  CHECK(event.event_type == IBV_EVENT_QP_ACCESS_ERR);
  CHECK(event.element.qp == both.takes.id->qp);
  ibv_ack_async_event(&event);
  both.end();
}

TEST_CASE("beyond the end of a region") {
  Connected both;
  REQUIRE(both.dials.write(1, "xy", both.takes, sizeof both.takes.memory - 1) == 0);
  CHECK(both.dials.completion().status == IBV_WC_REM_ACCESS_ERR);
  both.end();
}

TEST_CASE("both hear of the end") {
  Connected both;
  REQUIRE(rdma_disconnect(both.dials.id) == 0);
  CHECK(both.dials.next() == RDMA_CM_EVENT_DISCONNECTED);
  CHECK(both.takes.next() == RDMA_CM_EVENT_DISCONNECTED);
  REQUIRE(both.takes.send(IBV_WR_SEND, 1, "x") == 0);
  CHECK(both.takes.completion().status == IBV_WC_RETRY_EXC_ERR);
  both.end();
}
