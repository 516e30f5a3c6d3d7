"""near_lane.py ADDRESS PORT MISDEED: an accepting end on this host that takes its flow into the lane as it should, answers ten lines
there, and then does MISDEED with the memory that it shares. Never preloaded. Says "in the lane", and "done" after the misdeed."""

import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import time

import near_peer
from near_peer import BODIES, BODY, DATA, DEPTH, ENTRIES, MESSAGE, RINGS, SIZE, Link

ACCEPT, CONFIRM, CONFIRM_ACK, WINDOW, BLOCKED, GROW, SWITCH, FIN, RESET, RETIRE, CREDIT = 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12
RING = 16384
SLOT = 5
random.seed(7)


class Flow:
    """The accepting end of one connection, in its lane."""

    def __init__(self, sock):
        self.sock, self.taken, self.read, self.written = sock, 0, 0, 0
        line = b""
        while not line.endswith(b"\n"):
            line += sock.recv(1)
        sock.sendall(line)
        raw_in = raw_out = len(line)
        time.sleep(0.1)  # the point is open by then
        self.link = link = Link(sock.getpeername(), sock.getsockname())
        assert link.linked, "refused"
        self.own = mmap.mmap(link.own_fd, SIZE)
        claim = near_peer.claim(sock)
        link.message(claim)
        accept = self.message(ACCEPT)
        self.slot, self.ring, _, size = struct.unpack_from(">xxxxIQII", accept, 8)
        token, offset = accept[32:48], struct.unpack_from(">Q", accept, 48)[0]
        assert size == RING, size
        self.say(CONFIRM, struct.pack(">Q", raw_out))
        self.message(CONFIRM_ACK)
        sock.sendall(token)
        # What came raw is echoed in the lane; then its token.
        early = b""
        while len(early) < offset - raw_in + 16:
            early += sock.recv(offset - raw_in + 16 - len(early))
        assert early[-16:] == claim[-16:], "another token"
        self.write(early[:-16])

    def entry(self, seconds=5):
        """What the other end posts next: (kind, length, body or None)."""
        end = time.monotonic() + seconds
        at = ENTRIES + (self.taken + 1) % DEPTH * 64
        while struct.unpack_from("=I", self.own, at)[0] != self.taken + 1:
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.0005)
        self.taken += 1
        kind, length = struct.unpack_from("=II", self.own, at + 4)
        there = at + 16 if length <= 48 else BODIES + self.taken % DEPTH * BODY
        return kind, length, self.own[there:there + length] if kind == MESSAGE else None

    def message(self, wanted):
        while True:
            kind, _, body = self.entry()
            if kind == MESSAGE and body[0] == wanted:
                return body

    def say(self, kind, body=b"", returned=None):
        self.link.message(struct.pack(">B3xII", kind, self.taken if returned is None else returned, self.slot) + body)

    def line(self):
        """The next line that comes in the lane."""
        got = b""
        while not got.endswith(b"\n"):
            kind, length, _ = self.entry()
            if kind == DATA:
                got += b"".join(self.own[RINGS + at % RING:RINGS + at % RING + 1] for at in range(self.read, self.read + length))
                self.read += length
        self.say(WINDOW, struct.pack(">Q", self.read))
        return got

    def put(self, data):
        for i, byte in enumerate(data):
            self.link.memory[self.ring + (self.written + i) % RING] = byte

    def write(self, data):
        if not data:
            return
        self.put(data)
        self.written += len(data)
        self.link.post(DATA, len(data), self.slot)


def scribble(flow, start, end, seconds=1.0):
    """Over all of both segments, or a part of them, again and again, while the other end works with them."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for memory in (flow.own, flow.link.memory):
            stop = min(end, len(memory))
            at = random.randrange(start, stop - 64)
            memory[at:at + 64] = os.urandom(64)
        flow.link.ring()


def change_while_read(flow):
    """The fields of an entry, between right and impossible, while it is being taken."""
    until = time.monotonic() + 1
    while time.monotonic() < until:
        flow.put(b"\n")
        flow.link.sent += 1
        at = ENTRIES + flow.link.sent % DEPTH * 64
        struct.pack_into("=III", flow.link.memory, at + 4, DATA, 1, flow.slot)
        struct.pack_into("=I", flow.link.memory, at, flow.link.sent)
        flow.link.ring()
        for _ in range(200):
            struct.pack_into("=III", flow.link.memory, at + 4, MESSAGE, 0xFFFFFFFF, 0xFFFFFFFF)
            struct.pack_into("=III", flow.link.memory, at + 4, DATA, 1, flow.slot)


def die_in_the_middle(flow):
    """Bytes are in the ring and half of the entry is written: nobody ever posts it."""
    flow.put(b"half a line")
    at = ENTRIES + (flow.link.sent + 1) % DEPTH * 64
    struct.pack_into("=II", flow.link.memory, at + 4, DATA, 11)
    print("done", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def stop(flow):
    print("done", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def fill_bell(flow):
    """A bell that takes no more."""
    os.set_blocking(flow.link.their_bell, False)
    for power in range(63, -1, -1):  # whatever it holds already
        try:
            while True:
                os.eventfd_write(flow.link.their_bell, 1 << power)
        except BlockingIOError:
            pass


def truncate(flow):
    for descriptor in (flow.link.own_fd, flow.link.their_memory):
        for size in (0, 1 << 31):
            try:
                os.ftruncate(descriptor, size)
                print("truncated", flush=True)
            except OSError:
                pass
    flow.link.post(9, 1)


MISDEEDS = {
    "window-back": lambda flow: flow.say(WINDOW, struct.pack(">Q", 0)),
    "window-beyond": lambda flow: flow.say(WINDOW, struct.pack(">Q", flow.read + 1000000)),
    "window-overflow": lambda flow: flow.say(WINDOW, struct.pack(">Q", (1 << 64) - 1)),
    "data-beyond-window": lambda flow: flow.link.post(DATA, RING + 1, flow.slot),
    "data-without-end": lambda flow: flow.link.post(DATA, 0xFFFFFFFF, flow.slot),
    "data-for-all-slots": lambda flow: flow.link.post(DATA, 1, 0xFFFFFFFF),
    "credits-never-used": lambda flow: flow.say(CREDIT, returned=1 << 31),
    "fin-before-its-bytes": lambda flow: flow.say(FIN, struct.pack(">QB", flow.written + 100, 0)),
    "fin-in-the-past": lambda flow: flow.say(FIN, struct.pack(">QB", 0, 0)),
    "grow-beyond": lambda flow: flow.say(GROW, struct.pack(">QII", SIZE - 4096, 0, 65536)),
    "grow-into-the-queue": lambda flow: flow.say(GROW, struct.pack(">QII", 0, 0, 65536)),
    "switch-to-nothing": lambda flow: flow.say(SWITCH),
    "confirm-again": lambda flow: flow.say(CONFIRM_ACK),
    "retire-and-go-on": lambda flow: (flow.say(RETIRE, b"\0"), flow.link.post(DATA, 1, flow.slot)),
    "stamp-backwards": lambda flow: flow.link.post(DATA, 1, flow.slot, stamp=flow.link.sent - 5),
    "scribble-all": lambda flow: scribble(flow, 0, SIZE),
    "scribble-queues": lambda flow: scribble(flow, 0, RINGS),
    "scribble-rings": lambda flow: scribble(flow, RINGS, RINGS + 65536),
    "change-while-read": change_while_read,
    "fill-bell": fill_bell,
    "truncate": truncate,
    "die-in-the-middle": die_in_the_middle,
    "stop": stop,
}


def main(address, port, misdeed):
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    flow = Flow(listener.accept()[0])
    for _ in range(10):
        flow.write(flow.line())
    print("in the lane", flush=True)
    MISDEEDS[misdeed](flow)
    print("done", flush=True)
    print("lost" if flow.link.lost(3) else "kept", flush=True)
    signal.pause()


main(*sys.argv[1:])
