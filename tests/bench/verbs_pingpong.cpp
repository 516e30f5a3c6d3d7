// Round-trip time of raw verbs, the floor that the lane is measured against: one reliable-connected queue
// pair set up by RDMA-CM, RDMA WRITE WITH IMM, inline where the message fits, both ends spinning on the
// completion queue.
//
//   verbs_pingpong server ADDRESS PORT BYTES
//   verbs_pingpong client ADDRESS PORT BYTES [ROUNDS [WARMUP_MS]]
//
// Arguments and output are those of pingpong. The memory of each end is [ send | receive ], BYTES each; each
// end tells the other where its receive half is in the private data of the connection.

#include <arpa/inet.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "round_trips.hpp"

namespace {

constexpr uint32_t kMessage = 1, kStop = 2;  // immediates
constexpr uint32_t kReceives = 64;           // posted at all times
constexpr uint32_t kSends = 64;
constexpr uint32_t kSignalEvery = 16;  // at most kSends / 2, so that the send queue never fills
constexpr uint32_t kWantedInline = 256;
constexpr int kResolveMs = 2000;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "verbs_pingpong: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

struct Target {  // the peer's receive half; both ends are of one build, so it travels as it is
  uint64_t address;
  uint32_t key;
  uint32_t bytes;
};

class Endpoint {
 public:
  explicit Endpoint(size_t bytes) : memory_(2 * bytes), bytes_(bytes), events_(rdma_create_event_channel()) {
    if (!events_) die("rdma_create_event_channel");
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  ~Endpoint() {
    if (region_) {
      rdma_disconnect(id_);
      rdma_destroy_qp(id_);
      ibv_dereg_mr(region_);
      ibv_destroy_cq(completions_);
      rdma_destroy_id(id_);
    }
    if (listener_) rdma_destroy_id(listener_);
    rdma_destroy_event_channel(events_);
  }

  void accept_one(sockaddr_in name) {
    if (rdma_create_id(events_, &listener_, nullptr, RDMA_PS_TCP) != 0) die("rdma_create_id");
    if (rdma_bind_addr(listener_, reinterpret_cast<sockaddr*>(&name)) != 0) die("rdma_bind_addr");
    if (rdma_listen(listener_, 1) != 0) die("rdma_listen");
    std::puts("listening");
    std::fflush(stdout);
    expect(RDMA_CM_EVENT_CONNECT_REQUEST, true);
    prepare();
    const Target mine = receive_half();
    rdma_conn_param parameters = connection_parameters(mine);
    if (rdma_accept(id_, &parameters) != 0) die("rdma_accept");
    expect(RDMA_CM_EVENT_ESTABLISHED, false);
  }

  void dial(sockaddr_in name) {
    if (rdma_create_id(events_, &id_, nullptr, RDMA_PS_TCP) != 0) die("rdma_create_id");
    if (rdma_resolve_addr(id_, nullptr, reinterpret_cast<sockaddr*>(&name), kResolveMs) != 0) die("rdma_resolve_addr");
    expect(RDMA_CM_EVENT_ADDR_RESOLVED, false);
    if (rdma_resolve_route(id_, kResolveMs) != 0) die("rdma_resolve_route");
    expect(RDMA_CM_EVENT_ROUTE_RESOLVED, false);
    prepare();
    const Target mine = receive_half();
    rdma_conn_param parameters = connection_parameters(mine);
    if (rdma_connect(id_, &parameters) != 0) die("rdma_connect");
    expect(RDMA_CM_EVENT_ESTABLISHED, true);
  }

  char* outgoing() { return memory_.data(); }
  const char* incoming() const { return memory_.data() + bytes_; }

  void write(uint32_t immediate) {
    ibv_sge piece{reinterpret_cast<uint64_t>(memory_.data()), static_cast<uint32_t>(bytes_), region_->lkey};
    ibv_send_wr request{};
    request.sg_list = &piece;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    request.imm_data = htonl(immediate);
    if (bytes_ <= inline_) request.send_flags |= IBV_SEND_INLINE;
    if (++sent_ % kSignalEvery == 0) request.send_flags |= IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = peer_.address;
    request.wr.rdma.rkey = peer_.key;
    ibv_send_wr* bad = nullptr;
    if ((errno = ibv_post_send(id_->qp, &request, &bad)) != 0) die("ibv_post_send");
  }

  // Spins until the next message of the peer is in incoming(); returns its immediate.
  uint32_t await() {
    for (;;) {
      ibv_wc done;
      const int n = ibv_poll_cq(completions_, 1, &done);
      if (n < 0) die("ibv_poll_cq");
      if (n == 0) continue;
      if (done.status != IBV_WC_SUCCESS) errno = EIO, die(ibv_wc_status_str(done.status));
      if (done.opcode != IBV_WC_RECV_RDMA_WITH_IMM) continue;
      post_receives(1);
      if (done.byte_len != bytes_) errno = EBADMSG, die("a message of another length");
      return ntohl(done.imm_data);
    }
  }

  // Waits for the peer to go first, so that no queue pair is destroyed under a message that is on its way.
  void await_disconnect() { expect(RDMA_CM_EVENT_DISCONNECTED, false); }

 private:
  Target receive_half() const {
    return {reinterpret_cast<uint64_t>(incoming()), region_->rkey, static_cast<uint32_t>(bytes_)};
  }

  static rdma_conn_param connection_parameters(const Target& mine) {
    rdma_conn_param parameters{};
    parameters.private_data = &mine;
    parameters.private_data_len = sizeof mine;
    parameters.retry_count = 7;
    parameters.rnr_retry_count = 7;
    return parameters;
  }

  // Waits for one event. With `introduces`, it carries the peer's Target, and its id if we have none yet.
  void expect(rdma_cm_event_type type, bool introduces) {
    rdma_cm_event* event = nullptr;
    if (rdma_get_cm_event(events_, &event) != 0) die("rdma_get_cm_event");
    if (event->event != type) errno = ECONNABORTED, die(rdma_event_str(event->event));
    if (introduces) {
      if (event->param.conn.private_data_len < sizeof peer_) errno = EPROTO, die("no target in the private data");
      std::memcpy(&peer_, event->param.conn.private_data, sizeof peer_);
      if (peer_.bytes != bytes_) errno = EPROTO, die("the other end uses another message size");
      if (!id_) id_ = event->id;
    }
    rdma_ack_cm_event(event);
  }

  void prepare() {
    completions_ = ibv_create_cq(id_->verbs, kReceives + kSends, nullptr, nullptr, 0);
    if (!completions_) die("ibv_create_cq");
    ibv_qp_init_attr wanted{};
    wanted.send_cq = wanted.recv_cq = completions_;
    wanted.qp_type = IBV_QPT_RC;
    wanted.cap = {kSends, kReceives, 1, 1, kWantedInline};
    if (rdma_create_qp(id_, nullptr, &wanted) != 0) die("rdma_create_qp");
    inline_ = wanted.cap.max_inline_data;
    region_ = ibv_reg_mr(id_->pd, memory_.data(), memory_.size(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    if (!region_) die("ibv_reg_mr");
    post_receives(kReceives);
  }

  // A write with immediate takes one receive and none of its memory.
  void post_receives(uint32_t count) {
    ibv_recv_wr request{}, *bad = nullptr;
    for (; count > 0; --count)
      if ((errno = ibv_post_recv(id_->qp, &request, &bad)) != 0) die("ibv_post_recv");
  }

  std::vector<char> memory_;
  size_t bytes_;
  rdma_event_channel* events_;
  rdma_cm_id* listener_ = nullptr;
  rdma_cm_id* id_ = nullptr;
  ibv_cq* completions_ = nullptr;
  ibv_mr* region_ = nullptr;
  Target peer_{};
  uint32_t inline_ = 0;
  uint32_t sent_ = 0;
};

void serve(Endpoint& end, const sockaddr_in& name, size_t bytes) {
  end.accept_one(name);
  while (end.await() != kStop) {
    std::memcpy(end.outgoing(), end.incoming(), bytes);
    end.write(kMessage);
  }
  end.write(kStop);
  end.await_disconnect();
}

void play(Endpoint& end, const sockaddr_in& name, size_t bytes, size_t rounds, long warmup_ms) {
  end.dial(name);
  RoundTrips trips(rounds, warmup_ms);
  for (uint8_t round = 0; !trips.complete(); ++round) {
    std::memset(end.outgoing(), round, bytes);
    trips.begin();
    end.write(kMessage);
    end.await();
    trips.end();
    if (std::memcmp(end.incoming(), end.outgoing(), bytes) != 0) errno = EBADMSG, die("a wrong byte came back");
  }
  end.write(kStop);
  end.await();  // the server's own kStop: nothing is on its way any more, and either end may go
  trips.print(bytes);
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  const std::string_view role = argc > 1 ? argv[1] : "";
  const long bytes = argc > 4 ? std::atol(argv[4]) : 0;
  if ((role != "server" && role != "client") || bytes <= 0 || inet_pton(AF_INET, argv[2], &name.sin_addr) != 1)
    return std::fprintf(stderr, "usage: verbs_pingpong server|client ADDRESS PORT BYTES [ROUNDS [WARMUP_MS]]\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  alarm(120);  // a run that hangs is ended

  Endpoint end(static_cast<size_t>(bytes));
  if (role == "server")
    serve(end, name, static_cast<size_t>(bytes));
  else
    play(end, name, static_cast<size_t>(bytes), argc > 5 ? std::strtoul(argv[5], nullptr, 10) : 2000,
         argc > 6 ? std::atol(argv[6]) : 500);
}
