"""Between two machines: the bytes cross the cable as RoCE; and where the network drops RoCE, they cross it as TCP."""

import contextlib
import os
import time

from cases import hostile
from cases.streams import client, server, through_the_lane
from lab import PORTS, eventually, on_host, packets, require

CONNECTIONS = 4
BYTES = 1 << 20
MTU = 4096  # RoCE's
CARD = "eth0"
DETECTION_SECONDS = 8  # 2, and what an emulated machine needs to say so while others keep it busy
QUICK = "rendezvous_ms = 1500\ndial_ms = 1000\n"  # how long they try


def pair(lab, **options):
    """A server on host 2 and a client on host 1."""
    lab.address = os.environ["RSOCK_VM_PEER"]
    served, port = server(lab, "epoll", CONNECTIONS, host=2, **options)
    return served, client(lab, "threads", port, 5, CONNECTIONS, BYTES, **options)


@contextlib.contextmanager
def roce_dropped():
    """Both machines drop what arrives at RoCE's port. Gives a function that counts the dropped packets."""
    rule = f"""tc qdisc add dev {CARD} clsact &&
        tc filter add dev {CARD} ingress protocol ip u32 match ip protocol 17 0xff match ip dport 4791 0xffff action drop"""
    try:
        for host in 1, 2:
            on_host(host, "sh", "-c", rule)
        yield lambda: sum(int(on_host(host, "sh", "-c", f"tc -s filter show dev {CARD} ingress | "
                                      "sed -n 's/.* (dropped \\([0-9]*\\).*/\\1/p'")) for host in (1, 2))
    finally:
        for host in 1, 2:
            on_host(host, "tc", "qdisc", "delete", "dev", CARD, "clsact")


def on_tcp(end, reasons):
    """Every flow of an end that is now on TCP says why; its statistics."""
    stats = end.finish()
    require(set(stats["fallback"]) <= set(reasons) and sum(stats["fallback"].values()) == CONNECTIONS,
            f"{end.program.name}: {stats['fallback']}, not {' or '.join(reasons)}")
    return stats


def await_tcp(ends, words="stays on TCP"):
    for end in ends:
        eventually(f"{end.program.name}: {CONNECTIONS} flows are on TCP",
                   lambda end=end: end.program.log().count(words) >= CONNECTIONS, 40)


def came_back(end, reentries):
    """The statistics of an end whose flows all lost their lane once or more, entered one again so many times, and none settled."""
    stats = end.finish()
    told = {key: stats[key] for key in ("flows", "fallback", "returns", "reentries")}
    require(stats["flows"]["rdma"] == CONNECTIONS and not stats["fallback"], f"{end.program.name}: {told}")
    require(stats["returns"].keys() == {"link-failed"} and stats["returns"]["link-failed"] >= CONNECTIONS, f"{told}")
    require(stats["reentries"] >= reentries, f"{end.program.name}: {told}")
    require(stats["bytes_in"]["rdma"] > 0, f"{end.program.name}: {stats['bytes_in']}")
    return stats


def lane_between_hosts(lab):
    before = {(host, kind): packets(host, kind) for host in (1, 2) for kind in ("sent_pkts", "rcvd_pkts")}
    ends = pair(lab)
    through_the_lane(lab, ends)
    # What one end's statistics say it sent by the lane is at least so many packets of the two devices.
    for end, host in zip(ends, (2, 1)):
        least = end.program.stats()["bytes_out"]["rdma"] // MTU
        for place, kind in ((host, "sent_pkts"), (3 - host, "rcvd_pkts")):
            counted = packets(place, kind) - before[place, kind]
            require(counted >= least, f"host {place}: {kind} grew by {counted}, not {least}")


def roce_dropped_from_the_start(lab):
    with roce_dropped() as dropped:
        ends = pair(lab, options=QUICK)
        if lab.lane == "rdma":
            await_tcp(ends)
        for end in ends:
            end.hurry()
        for end, reason in zip(ends, ("dial-timeout", "not-dialled")):
            stats = on_tcp(end, [reason])
            require(stats["flows"] == {"tcp": CONNECTIONS, "rdma": 0, "shm": 0}, f"{end.program.name}: {stats['flows']}")
            require(stats["bytes_in"]["rdma"] == 0 and stats["bytes_in"]["tcp"] > BYTES // 4, f"{stats['bytes_in']}")
        require(dropped() > 0, "no packet was dropped")


def roce_dropped_in_the_lane(lab):
    """The link dies under flows that are in the lane: they come back, and no byte is lost."""
    ends = pair(lab)
    if lab.lane == "rdma":
        for end in ends:
            end.await_lane()
    with roce_dropped() as dropped:
        await_tcp(ends, "is back on TCP")
        for end in ends:
            end.hurry()
        for end in ends:
            require(came_back(end, 0)["bytes_in"]["tcp"] > 0, f"{end.program.name} received nothing over TCP")
        require(dropped() > 0, "no packet was dropped")


def roce_passes_again(lab):
    """The path is dead for a while: the flows enter the lane again by themselves, and it carries the rest."""
    ends = pair(lab)
    for end in ends:
        end.await_lane()
    with roce_dropped():
        await_tcp(ends, "is back on TCP")
    for end in ends:
        eventually(f"{end.program.name}: the flows are in the lane again",
                   lambda end=end: end.program.log().count("is in its lane") >= 2 * CONNECTIONS, 60)
        end.hurry()
    for end in ends:
        came_back(end, CONNECTIONS)


def silent_link(lab):
    """A path that dies under flows on which nothing is said: both ends are back on TCP before anybody says anything."""
    lab.address = os.environ["RSOCK_VM_PEER"]
    port = next(PORTS)
    server = lab.program("quiet.py", "server", lab.address, port, CONNECTIONS, host=2)
    server.await_words("listening")
    client = lab.program("quiet.py", "client", lab.address, port, CONNECTIONS)
    for end in server, client:
        eventually(f"{end.name} is in the lane", lambda end=end: end.log().count("is in its lane") == CONNECTIONS, 40)
        end.await_words("quiet")
    with roce_dropped():
        began = time.monotonic()
        for end in server, client:
            eventually(f"{end.name} is back on TCP", lambda end=end: end.log().count("is back on TCP") == CONNECTIONS, 20, pause=0.05)
        took = time.monotonic() - began
    require(took < DETECTION_SECONDS, f"a dead path was noticed after {took:.1f} s")


def relay_between_hosts(lab):
    """Somebody has a link to the server from the client's host, and one to the client from the server's."""
    lab.address = os.environ["RSOCK_VM_PEER"]
    hostile.relay(lab, 2)


CASES = {case.__name__: case for case in (roce_dropped_from_the_start, lane_between_hosts, roce_dropped_in_the_lane,
                                          roce_passes_again, silent_link, relay_between_hosts)}
