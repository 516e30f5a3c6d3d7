// RDMA devices, as /sys and /dev show them; no device is opened.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tools/doctor/checks.hpp"

namespace rsock::tools::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDevices = "sys/class/infiniband";
constexpr const char* kFiles = "/dev/infiniband";

/// An address as a GID has it: an IPv4 address is ::ffff:a.b.c.d.
using Gid = std::array<std::uint8_t, 16>;

struct Port {
  std::string device, number, index, type, interface;
  bool is_active = false;
};

struct Local {
  std::string interface, text;
  Gid gid{};
  bool is_loopback = false;
};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

/// For each address those who serve it, RoCE v2 first: it is what others choose.
std::multimap<Gid, Port> ports(const Subject& subject) {
  std::multimap<Gid, Port> found;
  for (const auto& device : devices(subject)) {
    const auto all = subject.root / kDevices / device / "ports";
    for (const auto& number : names_in(all)) {
      const auto port = all / number;
      const bool is_active = word_of(port / "state").find("ACTIVE") != std::string::npos;
      for (const auto& index : names_in(port / "gids")) {
        Gid gid{};
        if (::inet_pton(AF_INET6, word_of(port / "gids" / index).c_str(), gid.data()) != 1 || gid == Gid{}) continue;
        found.emplace(gid, Port{device, number, index, word_of(port / "gid_attrs/types" / index),
                                word_of(port / "gid_attrs/ndevs" / index), is_active});
      }
    }
  }
  return found;
}

std::vector<Local> addresses() {
  std::vector<Local> found;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return found;
  for (const auto* one = all; one; one = one->ifa_next) {
    if (!one->ifa_addr) continue;
    Local local{one->ifa_name, {}, {}, std::strcmp(one->ifa_name, "lo") == 0};
    char text[INET6_ADDRSTRLEN];
    if (one->ifa_addr->sa_family == AF_INET) {
      const auto& address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr;
      local.gid[10] = local.gid[11] = 0xff;
      std::memcpy(local.gid.data() + 12, &address, sizeof address);
      local.text = ::inet_ntop(AF_INET, &address, text, sizeof text);
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      const auto& address = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
      std::memcpy(local.gid.data(), &address, sizeof address);
      local.text = ::inet_ntop(AF_INET6, &address, text, sizeof text);
    } else {
      continue;
    }
    found.push_back(std::move(local));
  }
  ::freeifaddrs(all);
  return found;
}

/// The largest MTU of RDMA that fits, with its headers over UDP (InfiniBand, A17): 0 if none does.
unsigned rdma_mtu(unsigned mtu) {
  constexpr unsigned kHeaders = 68;
  for (const unsigned size : {4096u, 2048u, 1024u, 512u, 256u})
    if (size + kHeaders <= mtu) return size;
  return 0;
}

Finding of_address(const Subject& subject, const Local& local, const std::multimap<Gid, Port>& ports) {
  constexpr const char* kWhat = "address";
  const auto at = fmt::format("{} on {}", local.text, local.interface);
  const auto [first, last] = ports.equal_range(local.gid);
  if (first == last)
    return {kWhat, Verdict::warn, fmt::format("{}: no RDMA device serves it", at),
            "its flows stay on TCP, unless `rdma link add` gives it a device"};
  auto best =
      std::find_if(first, last, [](const auto& one) { return one.second.type.find("v2") != std::string::npos; });
  if (best == last) best = first;
  const auto& port = best->second;
  const auto mtu = static_cast<unsigned>(
      std::strtoul(word_of(subject.root / "sys/class/net" / local.interface / "mtu").c_str(), nullptr, 10));
  const auto text = fmt::format("{}: {} port {}, GID {} ({}), MTU {}, for RDMA {}", at, port.device, port.number,
                                port.index, port.type.empty() ? "of no known type" : port.type, mtu, rdma_mtu(mtu));
  if (!port.is_active)
    return {kWhat, Verdict::warn, fmt::format("{}, and is not active", text),
            fmt::format("`ip link set {} up`; `rdma link` shows its state", local.interface)};
  if (mtu != 0 && rdma_mtu(mtu) < 1024)
    return {kWhat, Verdict::warn, text,
            fmt::format("a larger MTU: `ip link set {} mtu 1500`, at both ends", local.interface)};
  return {kWhat, Verdict::ok, text};
}

Finding look_at_library_of_rdma() {
  constexpr const char* kWhat = "rdma-core";
  for (const char* library : {"libibverbs.so.1", "librdmacm.so.1"})
    if (void* found = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL))
      ::dlclose(found);
    else
      return {kWhat, Verdict::warn, fmt::format("{} is not installed: no flow enters RDMA", library),
              "install libibverbs1, librdmacm1 and ibverbs-providers"};
  return {kWhat, Verdict::ok, "libibverbs.so.1 and librdmacm.so.1 are there"};
}

Finding look_at_files(const Subject& subject) {
  std::vector<std::string> files{fmt::format("{}/rdma_cm", kFiles)};
  std::size_t verbs = 0;
  for (const auto& name : names_in(subject.seen(kFiles)))
    if (name.starts_with("uverbs")) files.push_back(fmt::format("{}/{}", kFiles, name)), ++verbs;
  if (verbs == 0)
    return {kFiles, Verdict::fail, "has no uverbs*: no device can be opened",
            "load ib_uverbs and rdma_ucm; in a container, pass /dev/infiniband"};
  for (const auto& file : files)
    if (const auto why = subject.why_not(file, 6); !why.empty())
      return {kFiles, Verdict::fail, fmt::format("{}: {}", file, why),
              "`modprobe rdma_ucm`; a udev rule, or a group, that gives the user read and write"};
  return {kFiles, Verdict::ok, fmt::format("{} may be opened", fmt::join(files, ", "))};
}

}  // namespace

std::vector<std::string> devices(const Subject& subject) { return names_in(subject.root / kDevices); }

bool demands_rdma(const config::Parsed& parsed) {
  return std::ranges::any_of(parsed.config.rules.all(),
                             [](const auto& rule) { return rule.lane == config::Lane::rdma; });
}

bool may_use_rdma(const config::Parsed& parsed) {
  const auto rules = parsed.config.rules.all();
  return rules.empty() || demands_rdma(parsed) ||
         std::ranges::any_of(rules, [](const auto& rule) { return rule.lane == config::Lane::automatic; });
}

Findings look_at_devices(const Subject& subject, const config::Parsed& parsed) {
  constexpr const char* kWhat = "device";
  const auto all = devices(subject);
  if (all.empty())
    return {{kWhat, demands_rdma(parsed) ? Verdict::fail : Verdict::warn,
             demands_rdma(parsed) ? "there is no RDMA device, and a rule says lane = \"rdma\""
                                  : "there is no RDMA device: only shared memory is a lane",
             "for Soft-RoCE: `modprobe rdma_rxe`, `rdma link add rxe0 type rxe netdev INTERFACE`"}};
  Findings findings;
  if (const auto& wanted = parsed.config.options.device; !wanted.empty() && std::ranges::find(all, wanted) == all.end())
    findings.push_back({kWhat, Verdict::fail,
                        fmt::format("the option device is {}, and devices are: {}", wanted, fmt::join(all, ", ")),
                        "name one of these, or none"});
  findings.push_back({kWhat, Verdict::ok, fmt::format("{}", fmt::join(all, ", "))});
  findings.push_back(look_at_library_of_rdma());
  findings.push_back(look_at_files(subject));
  const auto served = ports(subject);
  for (const auto& local : addresses())
    if (!local.is_loopback || served.contains(local.gid)) findings.push_back(of_address(subject, local, served));
  return findings;
}

}  // namespace rsock::tools::doctor
