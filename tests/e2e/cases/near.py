"""Peers on this host that misbehave in shared memory, and who may share it at all."""

import os
import re
import time

from cases.fallbacks import few_descriptors, impatient, max_pinned, next_version, server_descriptors
from lab import NOBODY, PORTS, Skipped, eventually, require

REFUSED, LOST = "refused", "lost"
MISDEEDS = {
    **dict.fromkeys(("unsealed", "half-sealed", "too-small", "no-memory", "pipe", "two-descriptors", "no-descriptors",
                     "many-descriptors", "short-hello", "other-version", "stranger"), REFUSED),
    **dict.fromkeys(("message-before-key", "second-key", "wrong-proof", "proof-of-other-end", "key-of-somebody-else",
                     "key-of-small-order", "wrong-stamp", "wrong-kind", "long-message", "empty-message", "data-for-nobody", "ring-in-the-queue",
                     "ring-beyond", "ring-far-away", "ring-of-no-segment", "scribble", "flood", "bell-without-end",
                     "truncate"),
                    LOST),
}


def misdeed(name, expected):
    """The victim goes on over TCP, and the link is lost or never made."""
    def case(lab):
        port = next(PORTS)
        peer = lab.program("near_peer.py", lab.address, port, name, preload=False)
        peer.await_words("listening")
        victim = lab.program("near_victim.py", lab.address, port, 5 if name == "bell-without-end" else 1.5)
        out = victim.finish(60)
        require("all came" in out, f"the victim: {out} {victim.end_of_output()}")
        peer.await_words(expected, 10)
        require(("linked" in peer.out()) == (expected == LOST), f"the peer was told: {peer.out()}")
        require("truncated" not in peer.out(), "memory was taken away")
        stats = victim.stats()
        require(stats["flows"]["tcp"] == 1 and stats["links"] == (expected == LOST), f"the victim: {stats}")
    return case


# In the lane, after ten lines: what each costs. Some cost nothing, since only the peer's own bytes are spoiled.
IN_LANE = {
    **dict.fromkeys(("window-beyond", "window-overflow", "data-beyond-window", "data-without-end", "data-for-all-slots",
                     "credits-never-used", "fin-before-its-bytes", "fin-in-the-past", "grow-beyond", "grow-into-the-queue",
                     "switch-to-nothing", "key-again", "accept-unasked", "retire-and-go-on", "stamp-backwards", "scribble-all",
                     "scribble-queues", "change-while-read", "descriptor-in-bell", "truncate"), ("lost",)),
    **dict.fromkeys(("window-back", "scribble-rings", "fill-bell"), ("lost", "kept")),
    # Too late, or for a flow that has its lane: nothing comes of it.
    **dict.fromkeys(("confirm-again", "claim-again"), ("kept",)),
    # The connection is reset. The slot is not given back before the link may go.
    **dict.fromkeys(("frame-of-its-own", "frame-of-nobody"), ("lost", "kept")),
    **dict.fromkeys(("die-in-the-middle", "stop"), ("done",)),
}


def in_lane(name, fates):
    """A peer that has entered the lane, and then spoils what it shares: it loses its link, and the victim's other flow notices
    nothing."""
    def case(lab):
        server = lab.redis()
        port = next(PORTS)
        peer = lab.program("near_lane.py", lab.address, port, name, preload=False)
        peer.await_words("listening")
        victim = lab.program("near_bystander.py", lab.address, port, server.port, 6)
        peer.await_words("in the lane")
        out = victim.finish(60)
        require("all came" in out and "wrong" not in out.splitlines()[-1], f"the victim: {out} {victim.end_of_output()}")
        require(any(fate in peer.out() for fate in fates) and "truncated" not in peer.out(), f"the peer: {peer.out()}")
        require("wrong" not in out or name in ("scribble-rings", "scribble-all", "change-while-read"), f"wrong bytes: {out}")
        peer.kill()
        stats = victim.stats()
        require(stats["flows"]["shm"] == 2, f"the victim: {stats}")
        lab.expect_lane(lab.stop(server), bytes_each=2000)
    return case


# In the cutover: what becomes of the link. The victim goes on by TCP, with every byte.
IN_CUTOVER = {
    **dict.fromkeys(("ring-before-confirm", "accept-before-confirm", "decline-of-accepted", "end-before-confirm", "ring-and-no-link",
                     "ring-before-token", "ring-and-no-token", "ring-and-no"), ("lost",)),
    **dict.fromkeys(("retire-before-confirm", "retire-before-confirm-begun", "offset-far-ahead", "offset-behind", "no", "raw-for-token",
                     "retire-for-token"), ("kept",)),
}


def in_cutover(name, fates):
    def case(lab):
        port = next(PORTS)
        peer = lab.program("near_lane.py", lab.address, port, name, preload=False)
        peer.await_words("listening")
        victim = lab.program("near_victim.py", lab.address, port, 3)
        out = victim.finish(60)
        require("all came" in out, f"the victim: {out} {victim.end_of_output()}; the peer: {peer.end_of_output()}")
        eventually("the peer knows of its link", lambda: re.search("^(lost|kept)$", peer.out(), re.M), 10)
        require(any(fate in peer.out() for fate in fates), f"the peer: {peer.out()}, not {' or '.join(fates)}")
        stats = victim.stats()
        require(stats["flows"]["tcp"] == 1 and stats["links"] == 1, f"the victim: {stats}")
    return case


# What an end shows that has seen the token of this one can be no other link's, and answers it: the peer lies, or somebody writes there
# who does not read, and that is the connection's end.
FOREIGN = ("token-of-another-link", "token-that-answers-nothing", "token-that-answers-another", "no-that-answers-nothing")


def foreign(name):
    def case(lab):
        port = next(PORTS)
        peer = lab.program("near_lane.py", lab.address, port, name, preload=False)
        peer.await_words("listening")
        victim = lab.program("near_victim.py", lab.address, port, 3)
        require("ended after" in victim.finish(30), f"the victim: {victim.out()} {victim.end_of_output()}")
        peer.await_words("lost", 10)
        require("is at the other end of another link" in victim.log(), "the log does not say what it was")
        require("is in its lane" not in victim.log(), "it took the lane")
    return case


def vanishes(lab):
    """The peer dies in the middle of the cutover."""
    port = next(PORTS)
    peer = lab.program("near_peer.py", lab.address, port, "vanish", preload=False)
    peer.await_words("listening")
    victim = lab.program("near_victim.py", lab.address, port, 3)
    require("ended after" in victim.finish(30), f"the victim: {victim.end_of_output()}")


def another_user(lab):
    """Memory is not shared between users, but for root."""
    if os.geteuid() != 0:
        raise Skipped("only root can be two users")
    for server_user, client_user, shared in ((NOBODY, NOBODY, True), (NOBODY, 65533, False), (None, NOBODY, True)):
        server = lab.redis(user=server_user)
        client = lab.program("values.py", lab.address, server.port, "blocking", "any", "1,1000", user=client_user)
        client.finish()
        steady = lab.program("steady.py", lab.address, server.port, 1, "any", user=client_user)
        steady.await_words("ready")
        eventually("the server decides", server.decided, 10)
        steady.process.terminate()
        steady.finish()
        stats = lab.stop(server)
        require((stats["flows"]["shm"] > 0) == shared, f"{server_user} and {client_user}: {stats['flows']} {stats['fallback']}")
        require(shared or "no-permission" in stats["fallback"], f"{stats['fallback']}")


def rdma_alone(lab):
    """A rule for rdma does not take shared memory; here that leaves TCP."""
    lab.lane = "rdma"
    server = lab.redis()
    client = lab.program("values.py", lab.address, server.port, "blocking", "any", "1,1000")
    client.finish()
    require(lab.stop(server)["flows"]["shm"] == 0, "shared memory was taken")


def automatic(lab):
    """With lane = "auto" it is shared memory on one host, whatever else there is."""
    lab.lane = "auto"
    server = lab.redis()
    client = lab.program("crowd.py", lab.address, server.port, 5, 50)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats(), bytes_each=2000)


def plain_beside(lab):
    """Clients that are not preloaded cost those that are nothing, from the same address."""
    server = lab.redis()
    plain = [lab.program("steady.py", lab.address, server.port, 3, "any", preload=False) for _ in range(2)]
    for client in plain:
        client.await_words("ready")
    time.sleep(3)
    laned = lab.program("crowd.py", lab.address, server.port, 5, 50)
    laned.finish()
    for client in plain:
        client.process.terminate()
        client.finish()
    lab.expect_lane(lab.stop(server), laned.stats(), bytes_each=2000)


def idle(lab):
    """Processes that only wait use no CPU."""
    server = lab.redis()
    client = lab.program("steady.py", lab.address, server.port, 3)
    client.await_words("ready")
    waiter = lab.program("waiter.py", lab.address, server.port, "recv")
    waiter.await_words("ready")
    client.process.terminate()
    client.finish()
    time.sleep(0.5)

    before = waiter.cpu_ms()
    time.sleep(4)
    used = waiter.cpu_ms() - before
    require(used <= 10, f"{used} ms of CPU in 4 s of waiting")


CASES = {**{f"near_lane_{name.replace('-', '_')}": in_lane(name, fates) for name, fates in IN_LANE.items()},
         **{f"near_cutover_{name.replace('-', '_')}": in_cutover(name, fates) for name, fates in IN_CUTOVER.items()},
         **{f"near_{name.replace('-', '_')}": foreign(name) for name in FOREIGN},
         **{f"near_{name.replace('-', '_')}": misdeed(name, expected) for name, expected in MISDEEDS.items()},
         **{f"near_{case.__name__}": case for case in (vanishes, another_user, rdma_alone, automatic, plain_beside, idle, next_version,
                                                           *map(impatient, (few_descriptors, server_descriptors, max_pinned)))}}
