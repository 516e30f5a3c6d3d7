"""relay.py WHICH ADDRESS PORT CLIENT-PORT: somebody between a server at PORT and its client, which both use librsock. Takes the name of the
client's rendezvous point before the client does, so that the server meets it there; then lets the name go and meets the client as if it
were the server. From then on it hands on whatever either says, and has rings of its own at the same places as theirs; it changes what it
reads there.

  own-keys     shows each of them a key of its own
  their-keys   hands on the keys that they show, too
  their-memory  and gives each the other's memory, of which it keeps a mapping

Prints "squatting", then whom it met ("server", "client"), and "read N bytes" as often as it has
more of them."""

import contextlib
import mmap
import os
import select
import struct
import sys
import time

from near_peer import ACCEPT, CLAIM, DATA, GROW, KEY, MESSAGE, OURS, RINGS, segment
from shared import RING_OF_CLAIM, Memory, Point, dial, say

MOST = 1 << 16  # as much of the rings as is looked at
# Where the ring is in a message.
RING_AT = {CLAIM: RING_OF_CLAIM, ACCEPT: 8 + 4 + 4, GROW: 8 + 4}


class Side:
    """One of the two victims, and the place in our segment of what it writes."""

    def __init__(self, link, memory):
        self.link, self.memory = link, memory
        self.place = self.size = None
        self.read = 0


def hand_on(at, to, keys_too):
    """What side `at` said, to side `to`. How many bytes that were."""
    entry = at.memory.take()
    if entry is None:
        return None
    kind, length, immediate, body = entry
    if kind == MESSAGE:
        if body[0] == KEY and not keys_too:
            return 0
        if body[0] in RING_AT:  # where `to` will write
            to.place, _, to.size = struct.unpack_from(">QII", body, RING_AT[body[0]])
            to.read = 0
        to.link.message(body[:4] + struct.pack(">I", to.memory.taken) + body[8:])  # credits are each link's own
        return 0
    for i in range(at.read, at.read + length):
        where = at.place + i % at.size
        byte = at.memory.own[where]
        to.link.memory[where] = ord("A") if byte == ord("a") else byte
    at.read += length
    to.link.post(DATA, length, immediate)
    return length


def watch(one, other, fds):
    """The two have each other's memory, and nothing but rings to hand on."""
    mapped = [mmap.mmap(fd, size_of(fd)) for fd in fds]
    pairs, end, total = {one.socket: other.socket, other.socket: one.socket}, time.monotonic() + 10, 0
    while time.monotonic() < end and pairs:
        for sock in select.select(list(pairs), [], [], 0.02)[0]:
            if not (rings := sock.recv(1000)):
                return
            with contextlib.suppress(BrokenPipeError):
                pairs[sock].send(rings)
        seen = sum(MOST - memory[RINGS:RINGS + MOST].count(0) for memory in mapped)
        if seen > total:
            total = seen
            say("read", total, "bytes")


def size_of(memory):
    return os.fstat(memory).st_size


def main(which, address, port, client_port):
    server, client = (address, int(port)), (address, int(client_port))
    keys_too, memory_too = which != "own-keys", which == "their-memory"
    point = Point(client, server)
    say("squatting")
    met = point.met(5)
    point.close()
    if not met:
        return say("nobody was met")
    say("met the server")
    fds = [met.their_memory] if memory_too else [segment(size_of(met.their_memory))]
    other = dial(client, server, 3, fds=fds, keyed=not keys_too)
    if not other:
        return say("refused by the client")
    say("met the client")
    theirs = other.their_memory
    met.answer(key=other.peer_key if keys_too else OURS.own, memory=theirs if memory_too else segment(size_of(theirs)))
    if memory_too:
        return watch(met, other, (met.their_memory, other.their_memory))
    sides = Side(met, Memory(met.own_fd)), Side(other, Memory(fds[0]))
    if not keys_too:
        met.agree(sides[0].memory)
    total, end = 0, time.monotonic() + 10
    while time.monotonic() < end:
        got = [hand_on(sides[0], sides[1], keys_too), hand_on(sides[1], sides[0], keys_too)]
        if any(got):
            total += sum(count or 0 for count in got)
            say("read", total, "bytes")
        elif got == [None, None]:
            time.sleep(0.0005)


main(*sys.argv[1:])
