#include "core/base/socket_owner.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>

#include "core/base/kernel.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock {
namespace {

constexpr uint8_t kEstablished = 1;  // as the kernel counts its states
constexpr const char* kTables[] = {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"};

// ---- diagnosis

struct Answer {
  uid_t owner = 0;
  uint64_t inode = 0;
};

bool no_descriptor(int error) { return error == EMFILE || error == ENFILE; }

Errno not_told(int error) { return {no_descriptor(error) ? error : ENOSYS}; }

Result<UniqueFd> open_diagnosis() {
  return out_of_the_way(
      [] { return sys::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG); });
}

inet_diag_sockid id_of(const Endpoint& local, const Endpoint& remote) {
  inet_diag_sockid id{};
  std::memcpy(id.idiag_src, local.address.bytes.data(), sizeof id.idiag_src);
  std::memcpy(id.idiag_dst, remote.address.bytes.data(), sizeof id.idiag_dst);
  id.idiag_sport = htons(local.port);
  id.idiag_dport = htons(remote.port);
  id.idiag_if = local.address.scope ? local.address.scope : remote.address.scope;
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return id;
}

// The kernel answers before the request's send(2) is over. Of ends that it does not know it tells the
// listener.
Result<Answer> ask(int diagnosis, const Endpoint& local, const Endpoint& remote) {
  struct {
    nlmsghdr header{};
    inet_diag_req_v2 body{};
  } request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = local.address.v6 ? AF_INET6 : AF_INET;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0u;
  request.body.id = id_of(local, remote);
  if (const auto sent = sys::send(diagnosis, &request, sizeof request, MSG_DONTWAIT); !sent) return Errno{sent.error()};

  alignas(nlmsghdr) std::array<uint8_t, 1024> bytes;
  iovec piece{bytes.data(), bytes.size()};
  sockaddr_nl from{};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  const auto got = sys::recvmsg(diagnosis, message, MSG_DONTWAIT);
  if (!got) return Errno{got.error()};
  nlmsghdr header{};
  inet_diag_msg body{};
  if (from.nl_pid != 0 || *got < NLMSG_HDRLEN + sizeof body) return Errno{ENOENT};
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return Errno{ENOENT};
  std::memcpy(&body, bytes.data() + NLMSG_HDRLEN, sizeof body);
  const bool same =
      body.id.idiag_sport == request.body.id.idiag_sport && body.id.idiag_dport == request.body.id.idiag_dport;
  if (!same || body.idiag_state != kEstablished || body.idiag_inode == 0) return Errno{ENOENT};
  return Answer{body.idiag_uid, body.idiag_inode};
}

// ---- the table

std::string_view take_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

template <class Number>
bool number(std::string_view word, Number& value, int base) {
  const auto end = word.data() + word.size();
  const auto read = std::from_chars(word.data(), end, value, base);
  return !word.empty() && read.ec == std::errc{} && read.ptr == end;
}

// ADDRESS:PORT, an address being words of the host's byte order.
bool parse_end(std::string_view word, Endpoint& end) {
  constexpr size_t kDigits = 8;
  const auto colon = word.find(':');
  if ((colon != kDigits && colon != 4 * kDigits) || !number(word.substr(colon + 1), end.port, 16)) return false;
  sockaddr_storage address{};
  std::array<uint32_t, 4> words{};
  for (size_t at = 0; at < colon; at += kDigits)
    if (!number(word.substr(at, kDigits), words[at / kDigits], 16)) return false;
  if (colon == kDigits) {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = words[0];
  } else {
    auto& in = reinterpret_cast<sockaddr_in6&>(address);
    in.sin6_family = AF_INET6;
    std::memcpy(&in.sin6_addr, words.data(), sizeof in.sin6_addr);
  }
  const auto port = end.port;
  const bool known = parse(reinterpret_cast<sockaddr&>(address),
                           end);  // a mapped one is the IPv4 address that it stands for
  end.port = port;
  return known;
}

auto ends_of(const SocketOwners::Row& row) { return std::tie(row.local, row.remote); }
bool before(const SocketOwners::Row& a, const SocketOwners::Row& b) { return ends_of(a) < ends_of(b); }

Result<UniqueFd> open_file(const char* path) {
  return out_of_the_way([&] { return sys::open(path, O_RDONLY | O_CLOEXEC, 0); });
}

Status read_rows(const char* path, std::vector<SocketOwners::Row>& rows) {
  auto file = open_file(path);
  if (!file) return Errno{file.error()};
  std::vector<char> buffer(32 << 10);
  size_t held = 0;  // of a line whose end is still to come
  for (;;) {
    const auto got = sys::read(file->get(), buffer.data() + held, buffer.size() - held);
    if (!got) return Errno{got.error()};
    if (*got == 0) return Done{};
    std::string_view text(buffer.data(), held + *got);
    for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
      SocketOwners::Row row{};
      if (parse_tcp_row(text.substr(0, end), row)) rows.push_back(row);
      text.remove_prefix(end + 1);
    }
    held = text.size();
    if (held == buffer.size()) return Errno{EPROTO};
    std::memmove(buffer.data(), text.data(), held);
  }
}

// ---- users

// The file's text, if it is short.
std::string short_file(const char* path) {
  std::array<char, 256> bytes;
  auto file = open_file(path);
  if (!file) return {};
  const auto got = sys::read(file->get(), bytes.data(), bytes.size());
  return got ? std::string(bytes.data(), *got) : std::string{};
}

// The number that a user without one in this user namespace is given, 65534 unless it was changed.
uid_t overflow_user() {
  uid_t user = 65534;
  const auto file = short_file("/proc/sys/kernel/overflowuid");
  const std::string_view text(file);
  (void)number(text.substr(0, text.find('\n')), user, 10);
  return user;
}

// In this user namespace every number is a user's own.
bool all_users_known() {
  const auto file = short_file("/proc/thread-self/uid_map");
  std::string_view text(file);
  text = text.substr(0, text.find('\n'));
  uint32_t here = 1, there = 1, count = 0;
  return number(take_word(text), here, 10) && number(take_word(text), there, 10) &&
         number(take_word(text), count, 10) && here == 0 && there == 0 && count == UINT32_MAX;
}

}  // namespace

uint64_t inode_of(int fd) {
  struct stat facts {};
  return sys::stat_of(fd, facts) ? facts.st_ino : 0;
}

Result<uid_t> diagnosed_owner(const TcpEnd& end) {
  auto diagnosis = open_diagnosis();
  if (!diagnosis) return not_told(diagnosis.error());
  auto own = ask(diagnosis->get(), end.local, end.remote);
  if (!own || own->inode != end.inode) return Errno{ENOSYS};
  auto other = ask(diagnosis->get(), end.remote, end.local);
  if (!other) return Errno{ENOENT};
  return other->owner;
}

Status SocketOwners::can_tell() {
  tells_ = tells_ || open_diagnosis();
  if (tells_) return Done{};
  const auto table = open_file(kTables[0]);
  tells_ = static_cast<bool>(table);
  return tells_ ? Status(Done{}) : Status(not_told(table.error()));
}

Result<uid_t> SocketOwners::peer_of(const TcpEnd& end) {
  const auto told = diagnosed_owner(end);
  if (told || !told.is(ENOSYS)) return told;
  if (const auto known = find(end)) return known;
  const auto begun = now();
  if (begun < next_reading_) return Errno{EAGAIN};
  if (const auto status = read(); !status) return not_told(status.error());
  const auto ended = now();
  next_reading_ = ended + (ended - begun);  // half of this thread's time at most, however often it is asked
  return find(end);
}

Result<uid_t> SocketOwners::find(const TcpEnd& end) const {
  const auto row_of = [&](const Endpoint& local, const Endpoint& remote) -> const Row* {
    const Row wanted{local, remote, 0, 0};
    const auto at = std::lower_bound(rows_.begin(), rows_.end(), wanted, before);
    return at != rows_.end() && ends_of(*at) == ends_of(wanted) ? &*at : nullptr;
  };
  const auto* own = row_of(end.local, end.remote);
  const auto* other = row_of(end.remote, end.local);
  if (!own || own->inode != end.inode || !other) return Errno{ENOENT};
  return other->owner;
}

Status SocketOwners::read() {
  rows_.clear();
  // Without IPv6 there is one table.
  const auto status = read_rows(kTables[0], rows_);
  if (status) (void)read_rows(kTables[1], rows_);
  std::sort(rows_.begin(), rows_.end(), before);
  return status;
}

// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
bool parse_tcp_row(std::string_view line, SocketOwners::Row& row) {
  unsigned state = 0;
  take_word(line);
  if (!parse_end(take_word(line), row.local) || !parse_end(take_word(line), row.remote)) return false;
  if (!number(take_word(line), state, 16) || state != kEstablished) return false;
  for (int skipped = 0; skipped < 3; ++skipped) take_word(line);
  if (!number(take_word(line), row.owner, 10)) return false;
  take_word(line);
  return number(take_word(line), row.inode, 10) && row.inode != 0;
}

bool is_one_user(uid_t user) {
  static const auto overflow = overflow_user();
  return user != overflow || all_users_known();
}

bool is_root_or_own(uid_t user) { return user == 0 || (user == sys::effective_user() && is_one_user(user)); }

bool may_share_memory(uid_t user) {
  const auto own = sys::effective_user();
  return (user == own || user == 0 || own == 0) && is_one_user(user);
}

}  // namespace rsock
