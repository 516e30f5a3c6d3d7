"""near_lane.py ADDRESS PORT MISDEED: an accepting end on this host that takes its flow into the lane as it should, answers ten lines
there, and then does MISDEED with the memory that it shares; or goes no further into the cutover than MISDEED, and answers by TCP
afterwards. Never preloaded. Says "in the lane", if it was there, and "done" after the misdeed."""

import contextlib
import mmap
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

import keys
import near_peer
from near_peer import (ACCEPT, BODIES, BODY, CONFIRM, CREDIT, DATA, DECLINE, DEPTH, ENTRIES, FIN, GROW, MESSAGE, RETIRE, RING, RINGS, SIZE,
                       SLOT, SWITCH, WINDOW, WITNESS, Link)

RESUME_FRAME = struct.pack(">B7xQQ", 1, 0, 0)  # behind the token; none of the ring's bytes have come
AGAIN = 0.2  # seconds, until what was given up is tried again
random.seed(7)


class Flow:
    """The accepting end of one connection."""

    def __init__(self, sock, answer=lambda line: line):
        self.sock, self.answer, self.taken, self.read, self.written, self.early = sock, answer, 0, 0, 0, b""
        line = b""
        while not line.endswith(b"\n"):
            line += sock.recv(1)
        self.first, self.raw_in, self.raw_out = line, len(line), 0
        self.send(answer(line))
        self.link = Link(sock.getpeername(), sock.getsockname())
        assert self.link.linked, "refused"
        self.own = mmap.mmap(self.link.own_fd, SIZE)
        shown = self.message(near_peer.KEY)
        assert shown[8 + keys.KEY_SIZE:] == keys.proof(self.link.secret, keys.DIALLED), "another secret"

    def send(self, data):
        self.sock.sendall(data)
        self.raw_out += len(data)

    def claim(self):
        """As far as ACCEPT."""
        claim = near_peer.claim_of(self.sock)
        self.link.message(claim)
        accept = self.message(ACCEPT)
        self.slot, self.ring, _, size = struct.unpack_from(">xxxxIQII", accept, 8)
        self.offset, = struct.unpack_from(">Q", accept, 48)
        assert size == RING, size
        self.said = claim[8:], accept[8:]
        self.cutover = keys.Cutover(self.link.secret, *self.said)

    def confirm(self):
        """As far as the other end's token; False if it gave up, as it may if this takes too long."""
        self.say(CONFIRM, struct.pack(">Q", self.raw_out))
        tag = self.cutover.tag(keys.CONNECTOR, self.offset)
        whole = self.offset - self.raw_in + keys.MARK_SIZE
        while len(self.early) < whole:
            got = self.sock.recv(whole - len(self.early))
            assert got, "it has ended"
            self.early += got
            if not tag.startswith(self.early[self.offset - self.raw_in:][:len(tag)]):
                return False
        self.raw_in += whole
        self.early, self.seen = self.early[:-keys.MARK_SIZE], self.early[-keys.MARK_SIZE:]
        assert self.cutover.is_mark(self.seen, keys.CONNECTOR, self.offset), "another link's token"
        return True

    def enter(self):
        while True:
            self.claim()
            if self.confirm():
                break
            self.message(RETIRE)
            self.say(RETIRE, b"\0\0")
            self.go_on_by_tcp()
        self.mark = self.token()
        self.send(self.mark)
        self.witnessed()
        if self.early:
            self.write(self.answer(self.early))  # what came raw is answered in the lane

    def go_on_by_tcp(self):
        """For a while."""
        got, self.early = self.early, b""
        self.sock.settimeout(AGAIN)
        with contextlib.suppress(TimeoutError):
            while True:
                self.raw_in += len(got)
                if got:
                    self.send(self.answer(got))
                got = self.sock.recv(1000)
                assert got, "it has ended"
        self.sock.settimeout(None)

    def token(self, **what):
        return self.cutover.mark(keys.ACCEPTOR, self.raw_out, keys.fresh(), **{"answered": keys.fresh_in(self.seen), **what})

    def no(self, **what):
        return self.cutover.no(self.raw_out, **{"answered": keys.fresh_in(self.seen), **what})

    def witnessed(self):
        """Before that nothing is in a ring."""
        kind, body = None, b""
        while kind is None or body[0] != WITNESS:
            kind, _, body = self.entry()
            assert kind == MESSAGE, "ring bytes before WITNESS"
        assert body[12:] == self.cutover.witness(*map(keys.fresh_in, (self.seen, self.mark))), "another WITNESS"

    def echo(self):
        """By TCP from now on."""
        self.send(self.early)
        with contextlib.suppress(OSError):
            while got := self.sock.recv(4096):
                self.send(got)

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

    def line(self, seconds=5):
        """The next line that comes in the lane."""
        got = b""
        while not got.endswith(b"\n"):
            kind, length, _ = self.entry(seconds)
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
    """A bell that takes no more, if the other end hears it more slowly than it is rung."""
    until = time.monotonic() + 1
    while flow.link.ring() or time.monotonic() < until:
        pass


def descriptor_in_bell(flow):
    """It is seen when the rings are taken off the socket, by an end that was woken some dozens of times."""
    flow.link.ring(fds=[os.pipe()[1]])
    with contextlib.suppress(TimeoutError):
        while True:
            flow.write(flow.line(1))


def truncate(flow):
    for descriptor in (flow.link.own_fd, flow.link.their_memory):
        for size in (0, 1 << 31):
            try:
                os.ftruncate(descriptor, size)
                print("truncated", flush=True)
            except OSError:
                pass
    flow.link.post(9, 1)


def accept_unasked(flow):
    ring = struct.pack(">QII", RINGS, 0, RING)
    flow.say(ACCEPT, struct.pack(">I", SLOT) + ring + os.urandom(keys.NONCE_SIZE) + bytes(8))


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
    "key-again": lambda flow: flow.link.show_key(),
    "confirm-again": lambda flow: flow.say(CONFIRM, struct.pack(">Q", flow.raw_out)),
    "claim-again": lambda flow: flow.link.message(near_peer.claim_of(flow.sock)),
    "accept-unasked": accept_unasked,
    "retire-and-go-on": lambda flow: (flow.say(RETIRE, b"\0\0"), flow.link.post(DATA, 1, flow.slot)),
    "frame-of-its-own": lambda flow: flow.send(flow.seen + RESUME_FRAME),
    "frame-of-nobody": lambda flow: flow.send(os.urandom(keys.MARK_SIZE) + RESUME_FRAME),
    "stamp-backwards": lambda flow: flow.link.post(DATA, 1, flow.slot, stamp=flow.link.sent - 5),
    "scribble-all": lambda flow: scribble(flow, 0, SIZE),
    "scribble-queues": lambda flow: scribble(flow, 0, RINGS),
    "scribble-rings": lambda flow: scribble(flow, RINGS, RINGS + 65536),
    "change-while-read": change_while_read,
    "fill-bell": fill_bell,
    "descriptor-in-bell": descriptor_in_bell,
    "truncate": truncate,
    "die-in-the-middle": die_in_the_middle,
    "stop": stop,
}


def foreign(flow):
    """The mark of the same cutover, from another link."""
    return keys.Cutover(os.urandom(32), *flow.said).mark(keys.ACCEPTOR, flow.raw_out, keys.fresh(), keys.fresh_in(flow.seen))


def ring_before_token(flow):
    """C has not said WITNESS, and cannot. It lets go of the link, and goes the way back as soon as it may."""
    flow.write(b"x" * 10)
    assert flow.link.lost(), "the link is kept"
    flow.mark = flow.token()
    flow.send(flow.mark)
    frame = b""
    while len(frame) < len(flow.seen + RESUME_FRAME):
        got = flow.sock.recv(len(flow.seen + RESUME_FRAME) - len(frame))
        assert got, "it has ended"
        frame += got
    assert frame == flow.seen + RESUME_FRAME, "no RESUME, or ring bytes were taken"
    flow.send(flow.mark + RESUME_FRAME)


def behind_token(deed):
    def whole(flow):
        assert flow.confirm(), "it gave up"
        deed(flow)
    return whole


# Behind ACCEPT, or behind the other end's token.
CUTOVERS = {
    "ring-before-confirm": lambda flow: flow.write(b"x" * 10),
    "accept-before-confirm": accept_unasked,
    "decline-of-accepted": lambda flow: flow.say(DECLINE, b"\2"),
    "end-before-confirm": lambda flow: flow.say(FIN, struct.pack(">QB", 0, 0)),
    "retire-before-confirm": lambda flow: flow.say(RETIRE, b"\0\0"),
    "retire-before-confirm-begun": lambda flow: flow.say(RETIRE, b"\0\1"),
    "offset-far-ahead": lambda flow: flow.say(CONFIRM, struct.pack(">Q", 1 << 60)),
    "offset-behind": lambda flow: flow.say(CONFIRM, struct.pack(">Q", 0)),
    "token-of-another-link": behind_token(lambda flow: flow.send(foreign(flow))),
    "token-that-answers-nothing": behind_token(lambda flow: flow.send(flow.token(answered=keys.NOTHING))),
    "token-that-answers-another": behind_token(lambda flow: flow.send(flow.token(answered=keys.fresh()))),
    "no": behind_token(lambda flow: flow.send(flow.no())),
    "no-that-answers-nothing": behind_token(lambda flow: flow.send(flow.no(answered=keys.NOTHING))),
    "raw-for-token": behind_token(lambda flow: None),
    "ring-and-no-token": behind_token(lambda flow: flow.write(b"x" * 10)),
    "ring-and-no": behind_token(lambda flow: (flow.write(b"x" * 10), flow.send(flow.no()))),
    "ring-before-token": behind_token(ring_before_token),
    "ring-and-no-link": behind_token(lambda flow: (flow.write(b"x" * 10), flow.link.socket.shutdown(socket.SHUT_RDWR))),
    "retire-for-token": behind_token(lambda flow: flow.say(RETIRE, b"\0\1")),
}


# Where no mark comes its first answer does, and shows that: C might have said nothing else before its token.
UNANSWERED = ("raw-for-token", "retire-for-token", "ring-and-no-token", "ring-and-no-link")


def main(address, port, misdeed):
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    owes = misdeed in UNANSWERED
    flow = Flow(listener.accept()[0], answer=(lambda line: b"") if owes else lambda line: line)
    if misdeed in CUTOVERS:
        flow.claim()
        CUTOVERS[misdeed](flow)
        if owes:
            flow.send(flow.first)
        watched = 1  # seconds; the other end is there for a little longer
        threading.Thread(target=flow.echo, daemon=True).start()
    else:
        flow.enter()
        for _ in range(10):
            flow.write(flow.line())
        print("in the lane", flush=True)
        MISDEEDS[misdeed](flow)
        watched = 3
    print("done", flush=True)
    print("lost" if flow.link.lost(watched) else "kept", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
