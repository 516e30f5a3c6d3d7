#include "tests/fabric/device/line.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace fabric {
namespace {

constexpr size_t kMostDescriptors = 4;

Descriptors taken_from(msghdr& message, ucred& sender) {
  Descriptors taken;
  for (auto* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_CREDENTIALS) std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
    if (header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t at = 0; at < count; ++at) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + at * sizeof fd, sizeof fd);
      taken.emplace_back(fd);
    }
  }
  return taken;
}

}  // namespace

Line::Line(Loop& loop, Descriptor socket, Open open, Pause pause)
    : loop_(loop), socket_(std::move(socket)), open_(std::move(open)), pause_(std::move(pause)) {}

Line::~Line() { loop_.unwatch(socket_.get()); }

pid_t Line::process() const {
  ucred peer{};
  socklen_t size = sizeof peer;
  getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
  return peer.pid;
}

void Line::serve(Loop::Do ended) {
  ended_ = std::move(ended);
  loop_.watch(socket_.get(), [this] { receive(); });
}

void Line::receive() {
  const auto self = shared_from_this();
  while (receive_one()) {
  }
}

// False if there is nothing more.
bool Line::receive_one() {
  Request request;
  iovec piece{&request, sizeof request};
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto got = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) return ended_(), false;
  ucred sender{};
  auto descriptors = taken_from(message, sender);
  if (static_cast<size_t>(got) == sizeof request) {
    handle(request, std::move(descriptors), sender.uid);
  } else if (station_) {
    page_.as<AnswerPage>().rung.exchange(0);
    station_->bell();
  }
  return true;
}

void Line::handle(const Request& request, Descriptors descriptors, uid_t user) {
  Answer answer;
  if (station_ && station_->wants_its_opener() && user != opener_) {
    answer.error = EACCES;
  } else if (station_) {
    answer = station_->answer(request, std::move(descriptors));
  } else {
    if (page_ || descriptors.empty()) return;
    page_ = Mapping(descriptors.front(), sizeof(AnswerPage));
    if (!page_) return;
    opener_ = user;
    station_ = open_(*this, request, std::move(descriptors), answer);
  }
  const auto pause = pause_(request);
  if (pause == Duration::zero()) return say(answer, request.number);
  loop_.after(pause, [line = weak_from_this(), answer, number = request.number] {
    if (const auto self = line.lock()) self->say(answer, number);
  });
}

void Line::say(const Answer& answer, uint32_t number) {
  auto& page = page_.as<AnswerPage>();
  page.answer = answer;
  page.number.store(number, std::memory_order_release);
  syscall(SYS_futex, &page.number, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Line::send(const CmEvent& event) {
  pending_.push_back(event);
  send_pending();
}

void Line::send_pending() {
  while (!pending_.empty() &&
         ::send(socket_.get(), &pending_.front(), sizeof(CmEvent), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
    pending_.pop_front();
  if (pending_.empty() || errno != EAGAIN) return;
  loop_.after(milliseconds(1), [line = weak_from_this()] {
    if (const auto self = line.lock()) self->send_pending();
  });
}

}  // namespace fabric
