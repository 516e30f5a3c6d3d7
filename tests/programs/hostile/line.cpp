#include "tests/programs/hostile/line.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "tests/programs/hostile/tcp.hpp"

namespace hostile {
namespace {

constexpr uint32_t kReceiveSize = 8 << 10;
constexpr uint32_t kSends = 512, kStaged = 512;
constexpr size_t kStage = kReceives * kReceiveSize;  // where what is sent begins
constexpr size_t kOwnRing = kStage + kSends * kStaged;
constexpr size_t kNothing = kOwnRing + kRing;

}  // namespace

Line::Line() : memory_(kNothing + kBlank) {}

Line::~Line() {
  if (!id) return;
  if (id->qp) rdma_disconnect(id), rdma_destroy_qp(id);
  if (region_) ibv_dereg_mr(region_);
  if (completions_) ibv_destroy_cq(completions_);
  rdma_destroy_id(id);
}

void Line::prepare() {
  completions_ = ibv_create_cq(id->verbs, kReceives + kSends, nullptr, nullptr, 0);
  if (!completions_) die("ibv_create_cq");
  ibv_qp_init_attr wanted{};
  wanted.send_cq = wanted.recv_cq = completions_;
  wanted.qp_type = IBV_QPT_RC;
  wanted.cap = {kSends, kReceives, 1, 1, 0};
  if (rdma_create_qp(id, nullptr, &wanted) != 0) die("rdma_create_qp");
  region_ = ibv_reg_mr(id->pd, memory_.data(), memory_.size(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  if (!region_) die("ibv_reg_mr");
  for (uint32_t buffer = 0; buffer < kReceives; ++buffer) post_receive(buffer);
}

rdma_conn_param Line::parameters() const {
  rdma_conn_param with{};
  with.private_data = privately.data();
  with.private_data_len = static_cast<uint8_t>(privately.size());
  with.retry_count = with.rnr_retry_count = 7;
  return with;
}

wire::RingPlace Line::ring() const { return {address(kOwnRing), region_->rkey, kRing}; }

std::array<uint32_t, 2> Line::numbers() const {
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  if (ibv_query_qp(id->qp, &attributes, IBV_QP_DEST_QPN, &initial) != 0) die("ibv_query_qp");
  return {id->qp->qp_num, attributes.dest_qp_num};
}

void Line::poll() {
  ibv_wc done;
  while (completions_ && ibv_poll_cq(completions_, 1, &done) > 0) {
    if (done.status != IBV_WC_SUCCESS) {
      if (state == State::up) state = State::lost;
      continue;
    }
    if (!(done.opcode & IBV_WC_RECV)) {
      --outstanding_;
      continue;
    }
    const auto buffer = static_cast<uint32_t>(done.wr_id);
    if (done.opcode != IBV_WC_RECV) {
      landed_ += done.byte_len;
    } else if (const auto message = wire::decode_message({memory_.data() + buffer * kReceiveSize, done.byte_len})) {
      if (const auto* pieces = std::get_if<wire::Pieces>(&message->body)) landed_ += pieces->packed.size();
      inbox_.push_back(*message);
    }
    post_receive(buffer);
    ++received_;
  }
}

void Line::say(const wire::Body& body, std::optional<uint32_t> returned) {
  const auto message = wire::encode({returned.value_or(received_), body});
  raw(message.span());
}

uint64_t Line::staged(std::span<const uint8_t> bytes) {
  const auto at = kStage + sent_ % kSends * kStaged;
  if (!bytes.empty()) std::memcpy(memory_.data() + at, bytes.data(), std::min<size_t>(bytes.size(), kStaged));
  return address(at);
}

void Line::raw(std::span<const uint8_t> bytes) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_SEND;
  post(request, staged(bytes), static_cast<uint32_t>(bytes.size()));
}

void Line::put(const wire::RingPlace& to, std::string_view words, uint32_t slot) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.imm_data = htonl(slot);
  request.wr.rdma = {to.address, to.key};
  const auto* first = reinterpret_cast<const uint8_t*>(words.data());
  post(request, staged({first, words.size()}), static_cast<uint32_t>(words.size()));
}

void Line::blank(uint32_t size) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_SEND;
  post(request, address(kNothing), size);
}

void Line::write(const wire::RingPlace& to, uint32_t size, uint32_t immediate, ibv_wr_opcode how) {
  ibv_send_wr request{};
  request.opcode = how;
  request.imm_data = htonl(immediate);
  request.wr.rdma = {to.address, to.key};
  post(request, address(kNothing), size);
}

void Line::post_receive(uint32_t buffer) {
  ibv_sge piece{address(buffer * kReceiveSize), kReceiveSize, region_->lkey};
  ibv_recv_wr request{}, *bad = nullptr;
  request.wr_id = buffer;
  request.sg_list = &piece;
  request.num_sge = 1;
  ibv_post_recv(id->qp, &request, &bad);
}

void Line::post(ibv_send_wr& request, uint64_t from, uint32_t size) {
  const auto deadline = Clock::now() + 300ms;
  while (outstanding_ + 1 >= kSends && state == State::up && Clock::now() < deadline) poll();
  ibv_sge piece{from, size, region_->lkey};
  request.sg_list = &piece;
  request.num_sge = 1;
  request.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  if (state == State::up && ibv_post_send(id->qp, &request, &bad) == 0) ++sent_, ++outstanding_;
}

}  // namespace hostile
