#include "core/engine/link.hpp"

#include <algorithm>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {
namespace {

constexpr int32_t kControlReserve = 2;  // credits that only CREDIT may use
constexpr int32_t kDataReserve = 16;    // credits that only control messages may use
// Messages that may wait for credits: more than a peer that takes them can ever make us say at once. A flow that has
// ended may leave its last words waiting: what counts is how many there were at a time.
constexpr size_t kMostQueued = 1024, kMostQueuedPerFlow = 32;
constexpr auto kAnswer = milliseconds(250);  // of a claim, on a link that is worth another

}  // namespace

Link::Link(Engine& engine, uint64_t id, std::unique_ptr<fabric::Connection> connection, const Address& peer,
           const wire::Greeting& greeting, bool dialled)
    : engine_(engine),
      id_(id),
      connection_(std::move(connection)),
      peer_(peer),
      lane_(connection_->lane()),
      user_(connection_->user()),
      completes_at_once_(connection_->completes_at_once()),
      peer_engine_(greeting.engine),
      receives_(greeting.receives),
      dialled_(dialled),
      peer_key_(greeting.key) {
  connection_->attach(*this);
}

Link::~Link() {
  if (connection_) connection_->detach();
}

void Link::set_ready() {
  if (std::exchange(ready_, true) || !dialled_ || failed_) return;
  if (!engine_.has_keys()) return fail(Reason::link_failed);
  const auto agreed =
      keys::LinkKey::agree(engine_.keys(), peer_key_, keys::End::dialler, connection_->numbers(), preshared().front());
  if (!agreed) return protocol_fault("a key that is none");
  secret_ = *agreed;
  send(wire::Key{engine_.keys().own(), secret_->proof(keys::End::dialler)});
}

// The secrets of the configuration that the keys may rest on: the first is the one to show. Over shared memory the
// kernel tells who the peer is, and none is asked for.
std::vector<const keys::Preshared*> Link::preshared() const {
  std::vector<const keys::Preshared*> known;
  if (lane_ != Lane::shm)
    for (const auto& secret : engine_.settings.secrets) known.push_back(&secret);
  if (known.empty()) known.push_back(nullptr);
  return known;
}

// The first message of each end.
void Link::keyed(const wire::Key& key) {
  if (proven_) return protocol_fault("a second key");
  if (dialled_) {
    proven_ = secret_ && secret_->proves(keys::End::dialled, key.proof);
  } else {
    for (const auto* secret : preshared())
      if (const auto agreed =
              keys::LinkKey::agree(engine_.keys(), key.key, keys::End::dialled, connection_->numbers(), secret);
          agreed && agreed->proves(keys::End::dialler, key.proof)) {
        proven_ = true;
        secret_ = *agreed;  // the one that the other end has used
        send(wire::Key{engine_.keys().own(), secret_->proof(keys::End::dialled)});
        break;
      }
  }
  if (!proven_) protocol_fault("it does not know the secret");
}

Result<wire::Slot> Link::bind(Flow& flow) {
  ++bound_;
  if (!free_slots_.empty()) {
    const auto slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = &flow;
    return slot;
  }
  if (slots_.size() >= wire::kSlotLimit) {
    --bound_;
    return Errno{ENOMEM};
  }
  slots_.push_back(&flow);
  return static_cast<wire::Slot>(slots_.size() - 1);
}

void Link::free(wire::Slot slot) {
  forget(*slots_[slot]);
  slots_[slot] = nullptr;
  free_slots_.push_back(slot);
  --bound_;
}

Flow* Link::flow_at(wire::Slot slot) { return slot < slots_.size() ? slots_[slot] : nullptr; }

void Link::note_sent(bool signaled) {
  ++sent_;
  if (signaled) signaled_ = sent_;
  if (completes_at_once_) completed_ = signaled_ = sent_;
}

bool Link::post_message(wire::Message message, bool signaled) {
  message.returned = received_;
  const auto bytes = wire::encode(message);
  signaled = signaled || must_signal();
  if (!connection_->post_message(bytes.span(), signaled)) {
    connection_failed();
    return false;
  }
  told_ = received_;
  note_sent(signaled);
  return true;
}

void Link::send(const wire::Body& body) {
  if (failed_) return;
  if (queued_.empty() && may_send(kControlReserve))
    post_message({0, body});
  else
    queued_.push_back(body);
  if (queued_.size() > kMostQueued + kMostQueuedPerFlow * slots_.size())
    protocol_fault("questions without credits for the answers");
}

void Link::note_claim() {
  if (claims_++ == 0) claimed_since_ = now();
}

void Link::note_answer() {
  answered_ = true;
  if (claims_ > 0) --claims_;
  claimed_since_ = now();
}

bool Link::silent() const { return claims_ > 0 && now() - claimed_since_ > kAnswer; }

bool Link::can_post() const { return !failed_ && queued_.empty() && may_send(kDataReserve); }

void Link::pump_later(Flow& flow) {
  if (std::find(waiting_.begin(), waiting_.end(), &flow) == waiting_.end()) waiting_.push_back(&flow);
}

bool Link::post_write(const flow::TxRing::Write& write, wire::Slot slot) {
  const bool signaled = signal_data() || must_signal();
  if (!connection_->post_write(write, wire::immediate(slot), signaled)) {
    connection_failed();
    return false;
  }
  note_sent(signaled);
  return true;
}

bool Link::probe_if_silent() {
  if (failed_ || completes_at_once_ || bound_ == 0) return false;
  if (!std::exchange(heard_, false)) probe();
  return true;
}

void Link::probe() {
  if (failed_ || completes_at_once_ || entries() <= kControlReserve) return;
  const bool signaled = must_signal();
  if (!connection_->post_probe(signaled)) return connection_failed();
  ++probes_;
  note_sent(signaled);
}

// Whether the data that is posted next begins the gathering.
bool Link::signal_data() {
  const bool further = burst_++ > 0 || bursty_;
  if (burst_out_ || !further || completes_at_once_) return false;
  burst_out_ = true;
  burst_end_ = sent_ + 1;
  return true;
}

void Link::note_arrival() {
  if (burst_ == 0) return;
  bursty_ = burst_ > 1;
  burst_ = 0;
}

void Link::gather(Flow& flow) {
  ++burst_;
  if (gathered_.empty()) engine_.gathering.push_back(this);
  if (std::find(gathered_.begin(), gathered_.end(), &flow) == gathered_.end()) gathered_.push_back(&flow);
}

void Link::flush() {
  if (gathered_.empty()) return;
  std::erase(engine_.gathering, this);
  const auto flows = std::exchange(gathered_, {});
  wire::Packer pack;
  const auto post = [&] {
    if (!pack.empty()) post_message({0, pack.pieces()}, signal_data());
    pack.clear();
  };
  for (auto* flow : flows)
    while (const auto size = flow->packable()) {
      if (size > pack.room()) post();
      if (failed_ || (pack.empty() && !can_post())) break;
      flow->pack(pack);
    }
  post();
  // What is too large for a message, or may not go yet.
  for (auto* flow : flows)
    if (!failed_) flow->pump(Gather::no);
}

void Link::forget(Flow& flow) {
  std::erase(waiting_, &flow);
  // A link is among those that gather as long as a flow of it does: whoever flushes them goes on until there is none.
  if (std::erase(gathered_, &flow) > 0 && gathered_.empty()) std::erase(engine_.gathering, this);
}

void Link::sends_completed(uint32_t count) {
  heard_ = true;
  completed_ = count;
  if (burst_out_ && static_cast<int32_t>(completed_ - burst_end_) >= 0) {
    burst_out_ = false;
    flush();
  }
  pump();
}

// Control first, then the flows that wait, one turn each.
void Link::pump() {
  while (!failed_ && !queued_.empty() && may_send(kControlReserve)) {
    const auto body = queued_.front();
    queued_.pop_front();
    if (!post_message({0, body})) return;
  }
  return_credits();
  for (auto turns = waiting_.size(); turns > 0 && can_post() && !waiting_.empty(); --turns) {
    auto* flow = waiting_.front();
    waiting_.pop_front();
    flow->pump();
  }
}

void Link::received_one() {
  ++received_;
  if (received_ - told_ > connection_->receive_depth()) return protocol_fault("more than its credits");
  return_credits();
}

void Link::return_credits() {
  if (failed_ || received_ - told_ < connection_->receive_depth() / 4) return;
  if (may_send(0)) post_message({0, wire::Credit{}});
}

void Link::data_landed(uint32_t immediate, uint32_t length) {
  heard_ = true;
  note_arrival();
  auto* flow = flow_at(immediate);
  if (!flow || !flow->data_landed(length)) return protocol_fault("data for no flow, or beyond its window");
  received_one();
}

void Link::message_landed(std::span<const uint8_t> bytes) {
  heard_ = true;
  set_ready();
  const auto message = wire::decode_message(bytes);
  if (!message) return protocol_fault("a message that cannot be read");
  returned_ = message->returned;
  if (credits() > static_cast<int32_t>(receives_)) return protocol_fault("credits that were never used");
  handle(*message);
  if (failed_) return;
  received_one();
  pump();
}

void Link::handle(const wire::Message& message) {
  std::visit(
      [&](const auto& body) {
        using Kind = std::remove_cvref_t<decltype(body)>;
        if constexpr (std::is_same_v<Kind, wire::Key>) {
          keyed(body);
        } else if (!proven_ && !std::is_same_v<Kind, wire::Credit>) {
          protocol_fault("a message before its key");
        } else if constexpr (std::is_same_v<Kind, wire::Claim>) {
          claimed(body);
        } else if constexpr (std::is_same_v<Kind, wire::Pieces>) {
          pieces_landed(body);
        } else if constexpr (!std::is_same_v<Kind, wire::Credit>) {
          auto* flow = flow_at(body.to);
          if (!flow || !flow->handle(body)) protocol_fault("a message that its flow cannot expect");
        }
      },
      message.body);
}

void Link::pieces_landed(wire::Pieces pieces) {
  note_arrival();
  while (const auto piece = wire::next_piece(pieces)) {
    auto* flow = flow_at(piece->to);
    if (!flow || !flow->data_landed(piece->bytes)) return protocol_fault("data for no flow, or beyond its window");
    if (failed_) return;
  }
}

void Link::claimed(const wire::Claim& claim) {
  auto* flow = engine_.find_connector(claim, *this);
  if (!flow) return send(wire::Decline{claim.from, wire::DeclineCause::unknown_flow});
  if (!flow->may_use(*this)) {
    const bool known = flow->peer_user().has_value();
    if (!known) engine_.ask_owner(*flow);  // it may be claimed again when that is found out
    return send(wire::Decline{claim.from, known ? wire::DeclineCause::unknown_flow : wire::DeclineCause::unwilling});
  }
  if (!flow->claimed(*this, claim)) {
    const auto cause = flow->not_yet() ? wire::DeclineCause::unwilling : wire::DeclineCause::resources;
    return send(wire::Decline{claim.from, cause});
  }
  answered_ = true;
}

void Link::protocol_fault(const char* what) {
  log::warning("the peer {} broke the protocol: {}", to_string(peer_), what);
  fail(Reason::protocol);
}

void Link::connection_failed() { fail(Reason::link_failed); }

void Link::fail(Reason reason) {
  if (failed_) return;
  failed_ = true;
  log::info("link {} to {} failed: {}", id_, to_string(peer_), key(reason));
  connection_->detach();
  queued_.clear();
  waiting_.clear();
  gathered_.clear();
  std::erase(engine_.gathering, this);
  const auto flows = slots_;
  for (auto* flow : flows)
    if (flow) flow->link_failed(reason);
  engine_.link_failed(*this);
}

}  // namespace rsock::engine
