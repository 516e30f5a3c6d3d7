#pragma once
// Why a selected flow is on TCP: the keys of "fallback" in the statistics. One list, shown to users as it stands.

#include <string_view>

namespace rsock {

#define RSOCK_REASONS(X)                                                                              \
  X(plain_peer, "plain-peer", "the peer refused the dial: it does not run librsock")                  \
  X(not_dialled, "not-dialled", "nobody dialled the rendezvous in time: the peer does not run librsock") \
  X(port_taken, "port-taken", "other flows of this host from the same address and port kept the rendezvous to themselves") \
  X(dial_timeout, "dial-timeout", "the dial was not answered in time")                                \
  X(no_device, "no-device", "no RDMA device serves the flow's address, or rdma-core is not installed") \
  X(no_route, "no-route", "RDMA does not reach the peer's address")                                   \
  X(no_permission, "no-permission", "the RDMA device may not be opened, or the peer on this host is another user's") \
  X(locked_memory, "locked-memory", "memory could not be registered: the locked-memory limit, or max_pinned") \
  X(descriptors, "descriptors", "no descriptor was left for the library")                             \
  X(peer_version, "peer-version", "the peer speaks another version of the protocol")                  \
  X(peer_left, "peer-left", "the peer took the flow off its lane, for good")                          \
  X(peer_declined, "peer-declined", "the peer had no resources, or its rules say tcp")                \
  X(crowded, "crowded", "too many flows were waiting for a link to the peer")                         \
  X(link_failed, "link-failed", "the link could not be set up, or failed")                            \
  X(protocol, "protocol", "the peer broke the protocol and lost its link")                            \
  X(unserved_call, "unserved-call", "the program made a call that no lane serves")                    \
  X(shared, "shared", "more than one process may use the descriptor")                                 \
  X(lane_unavailable, "lane-unavailable", "the rule asks for shared memory, and the peer is on another host") \
  X(by_operator, "operator", "an operator asked for TCP (rsock lane tcp)")                             \
  X(deselected, "deselected", "no rule selects it any more (rsock reload)")                            \
  X(short_lived, "short-lived", "the flow ended before a lane was ready")

enum class Reason {
#define RSOCK_REASON_NAME(name, key, text) name,
  RSOCK_REASONS(RSOCK_REASON_NAME)
#undef RSOCK_REASON_NAME
};

inline constexpr std::string_view kReasonKeys[] = {
#define RSOCK_REASON_KEY(name, key, text) key,
    RSOCK_REASONS(RSOCK_REASON_KEY)
#undef RSOCK_REASON_KEY
};
inline constexpr size_t kReasons = sizeof kReasonKeys / sizeof *kReasonKeys;

inline constexpr std::string_view key(Reason reason) { return kReasonKeys[static_cast<size_t>(reason)]; }

}  // namespace rsock
