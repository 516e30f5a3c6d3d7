#include "core/fabric/verbs/queue_pair.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

#include "core/base/log.hpp"

namespace rsock::fabric::verbs {

static_assert(kLinkMessage == wire::kMessageMax);

std::unique_ptr<QueuePair> QueuePair::make(Device& device, rdma_cm_id* id, Lock& lock, PinnedBudget& budget,
                                           Shortage& shortage) {
  std::unique_ptr<QueuePair> made(new QueuePair(device, id, lock, budget));
  shortage = made->open();
  if (shortage == Shortage::none) return made;
  if (made->queue_pair_) device.library().rdma_destroy_qp(id);
  made->queue_pair_ = nullptr;
  made->id_ = nullptr;  // the caller's still
  return nullptr;
}

QueuePair::QueuePair(Device& device, rdma_cm_id* id, Lock& lock, PinnedBudget& budget)
    : device_(device),
      lock_(lock),
      id_(id),
      rings_(
          budget, [this](flow::Block& b) { return add_region(b, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE); },
          [this](const flow::Block& b) { remove_region(b); }),
      mirrors_(
          budget, [this](flow::Block& b) { return add_region(b, IBV_ACCESS_LOCAL_WRITE); },
          [this](const flow::Block& b) { remove_region(b); }),
      buffers_(
          budget, [this](flow::Block& b) { return add_region(b, IBV_ACCESS_LOCAL_WRITE); },
          [this](const flow::Block& b) { remove_region(b); }) {}

Shortage QueuePair::open() {
  const auto& library = device_.library();
  domain_ = library.ibv_alloc_pd(device_.context());
  if (!domain_) return Shortage::queue;
  messages_ = buffers_.allocate(std::bit_ceil(2 * kDepth * kBufferSize));
  if (!messages_) return Shortage::memory;
  {
    const std::lock_guard guard(lock_);
    queue_ = device_.reserve(2 * kDepth);
  }
  if (!queue_) return Shortage::queue;

  ibv_qp_init_attr attributes{};
  attributes.qp_type = IBV_QPT_RC;
  attributes.send_cq = attributes.recv_cq = queue_;
  attributes.cap.max_send_wr = attributes.cap.max_recv_wr = kDepth;
  attributes.cap.max_send_sge = attributes.cap.max_recv_sge = 1;
  for (const uint32_t size : {kInline, 64u, 0u}) {
    attributes.cap.max_inline_data = size;
    if (library.rdma_create_qp(id_, domain_, &attributes) == 0) {
      queue_pair_ = id_->qp;
      inline_ = attributes.cap.max_inline_data;
      break;
    }
  }
  if (!queue_pair_) return Shortage::queue;
  {
    const std::lock_guard guard(lock_);
    number_ = device_.enlist(*this);
  }
  for (uint32_t buffer = 0; buffer < kDepth; ++buffer)
    if (!post_receive(buffer)) return Shortage::queue;
  return Shortage::none;
}

// The order that verbs asks for: the queue pair, then what it refers to, then the identifier of the connection.
// Completions are nobody's before that, and their room is free only afterwards.
QueuePair::~QueuePair() {
  const auto& library = device_.library();
  if (number_ != kUnlisted) {
    const std::lock_guard guard(lock_);
    device_.strike(number_);
  }
  if (queue_pair_) library.rdma_destroy_qp(id_);
  for (auto* region : regions_) library.ibv_dereg_mr(region);
  regions_.clear();
  if (domain_) library.ibv_dealloc_pd(domain_);
  if (id_) library.rdma_destroy_id(id_);
  if (queue_) {
    const std::lock_guard guard(lock_);
    device_.give_back(queue_, 2 * kDepth);
  }
}

bool QueuePair::add_region(flow::Block& chunk, int access) {
  auto* region = device_.library().reg_mr(domain_, chunk.base, chunk.size, access);
  if (!region) {
    log::info("{} bytes cannot be registered: {}", chunk.size, std::strerror(device_.library().error()));
    return false;
  }
  regions_.push_back(region);
  chunk.local_key = region->lkey;
  chunk.remote_key = region->rkey;
  return true;
}

void QueuePair::remove_region(const flow::Block& chunk) {
  const auto found = std::find_if(regions_.begin(), regions_.end(), [&](ibv_mr* r) { return r->addr == chunk.base; });
  if (found == regions_.end()) return;
  device_.library().ibv_dereg_mr(*found);
  regions_.erase(found);
}

Result<flow::Block> QueuePair::block_of(Arena& arena, uint32_t size) {
  const auto block = arena.allocate(size);
  if (!block) return Errno{ENOMEM};
  return block;
}

bool QueuePair::post_receive(uint32_t buffer) {
  ibv_sge piece{};
  piece.addr = reinterpret_cast<uintptr_t>(messages_.base) + buffer * kBufferSize;
  piece.length = kBufferSize;
  piece.lkey = messages_.local_key;
  ibv_recv_wr request{}, *bad = nullptr;
  request.wr_id = WorkId::receive(number_, buffer).value();
  request.sg_list = &piece;
  request.num_sge = 1;
  return ibv_post_recv(queue_pair_, &request, &bad) == 0;
}

bool QueuePair::post(ibv_send_wr& request, ibv_sge& piece, bool signaled) {
  request.sg_list = &piece;
  request.num_sge = 1;
  if (piece.length <= inline_) request.send_flags |= IBV_SEND_INLINE;
  return post(request, signaled);
}

bool QueuePair::post(ibv_send_wr& request, bool signaled) {
  request.wr_id = WorkId::send(number_, sent_ + 1).value();
  if (signaled) request.send_flags |= IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  if (const int error = ibv_post_send(queue_pair_, &request, &bad)) {
    log::warning("a work request was refused: {}", std::strerror(error));
    return false;
  }
  ++sent_;
  return true;
}

bool QueuePair::post_write(const flow::TxRing::Write& write, uint32_t immediate, bool signaled) {
  ibv_sge piece{reinterpret_cast<uintptr_t>(write.local), write.length, write.local_key};
  ibv_send_wr request{};
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.imm_data = htonl(immediate);
  request.wr.rdma.remote_addr = write.remote;
  request.wr.rdma.rkey = write.remote_key;
  return post(request, piece, signaled);
}

// A write of nothing: it needs no memory there (no key is looked at) and no receive, but is acknowledged like any
// other.
std::array<uint32_t, 2> QueuePair::numbers() const {
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  if (device_.library().ibv_query_qp(queue_pair_, &attributes, IBV_QP_DEST_QPN, &initial) != 0) return {};
  return {queue_pair_->qp_num, attributes.dest_qp_num};
}

Connection::Holding QueuePair::holding() const {
  Holding holding{.memory = rings_.size() + mirrors_.size() + buffers_.size(), .largest_inline = inline_};
  if (!device_.vacant()) holding.device = device_.context()->device->name;
  return holding;
}

bool QueuePair::post_probe(bool signaled) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_RDMA_WRITE;
  return post(request, signaled);
}

bool QueuePair::post_message(std::span<const uint8_t> bytes, bool signaled) {
  auto* staged = messages_.base + (kDepth + sent_ % kDepth) * kBufferSize;
  std::memcpy(staged, bytes.data(), bytes.size());
  ibv_sge piece{reinterpret_cast<uintptr_t>(staged), static_cast<uint32_t>(bytes.size()), messages_.local_key};
  ibv_send_wr request{};
  request.opcode = IBV_WR_SEND;
  return post(request, piece, signaled);
}

void QueuePair::complete(WorkId id, const ibv_wc& completion) {
  if (!sink_) return;
  if (completion.status != IBV_WC_SUCCESS) {
    log::info("queue pair {}: work completion status {}", number_, static_cast<int>(completion.status));
    sink_->connection_failed();
    return;
  }
  if (!id.is_receive()) {
    sink_->sends_completed(id.number());
    return;
  }
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    post_receive(id.number());
    sink_->data_landed(ntohl(completion.imm_data), completion.byte_len);
    return;
  }
  uint8_t message[kBufferSize];
  const auto size = std::min(completion.byte_len, kBufferSize);
  std::memcpy(message, messages_.base + id.number() * kBufferSize, size);
  post_receive(id.number());
  sink_->message_landed({message, size});
}

}  // namespace rsock::fabric::verbs
