"""The shared-memory side of the protocol, played by hand (docs/protocol.md), for programs that are not what they seem to be."""

import array
import mmap
import os
import select
import socket
import struct
import time

import keys
from near_peer import (ACCEPT, BODIES, BODY, DEPTH, ENTRIES, ENTRY, KEY, MESSAGE, OURS, RING, RINGS, SLOT, Link, greeting,
                       message, segment)

WELCOME, LINKED = 0, 2
RING_OF_CLAIM = 8 + 4 + 19 + 19  # where it is in the message


def say(*words):
    print(*words, flush=True)


def receive(sock, size):
    """So many bytes by TCP."""
    got = b""
    while len(got) < size:
        piece = sock.recv(size - len(got))
        assert piece, "it has ended"
        got += piece
    return got


def point_name(connector, acceptor):
    return "\0rsock-{}:{}-{}:{}".format(*connector, *acceptor)


class Memory:
    """What the other end of a link posts into a segment of ours."""

    def __init__(self, fd):
        self.own, self.taken = mmap.mmap(fd, os.fstat(fd).st_size), 0

    def take(self):
        """(kind, length, immediate, body or None) of the next entry; None if there is none."""
        at = ENTRIES + (self.taken + 1) % DEPTH * ENTRY
        stamp, kind, length, immediate = struct.unpack_from("=IIII", self.own, at)
        if stamp != self.taken + 1:
            return None
        self.taken += 1
        there = at + 16 if length <= 48 else BODIES + self.taken % DEPTH * BODY
        return kind, length, immediate, self.own[there:there + length] if kind == MESSAGE else None

    def wait(self, wanted, seconds=5):
        """The next message of that kind, or of those kinds; None if none comes."""
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.take()
            if entry and entry[0] == MESSAGE and entry[3][0] in wanted:
                return entry[3]
            if not entry:
                time.sleep(0.0005)
        return None


class Point:
    """A rendezvous point under the name that belongs to the flow of others, or to one's own."""

    def __init__(self, connector, acceptor):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(point_name(connector, acceptor))
        self.socket.listen(8)

    def met(self, seconds=5):
        """Whoever dials and says something; None if nobody does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([self.socket], [], [], end - time.monotonic())[0]:
                return None
            if (met := Met(self.socket.accept()[0])).linked:
                return met
        return None

    def answer(self, seconds=5, **what):
        """The link to whoever dials, answered; None if nobody does."""
        if met := self.met(seconds):
            met.answer(**what)
        return met

    def close(self):
        self.socket.close()


class Met(Link):
    """A link to whoever dialled."""

    def __init__(self, caller):
        self.socket, self.sent, self.linked = caller, 0, False
        caller.settimeout(5)
        try:
            hello, passed, _, _ = socket.recv_fds(caller, 100, 1)
        except OSError:
            return
        if not hello or not passed:
            return
        self.memory = mmap.mmap(passed[0], os.fstat(passed[0]).st_size)
        self.their_memory, = passed
        self.linked = True

    def answer(self, receives=DEPTH, verdict=WELCOME, key=OURS.own, memory=None):
        self.own_fd = segment() if memory is None else memory
        words = bytearray(greeting(receives=receives))
        struct.pack_into(">H", words, 6, verdict)
        self.socket.sendmsg([words + key], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.own_fd]))])

    def numbers(self):
        return [int(self.socket.getpeername()[1:], 16)] * 2

    def agree(self, memory):
        """Each shows the other its key, whoever dialled first."""
        shown = memory.wait(KEY)
        if not shown:
            return
        peer, proof = shown[8:8 + keys.KEY_SIZE], shown[8 + keys.KEY_SIZE:]
        self.secret = OURS.link(peer, keys.DIALLED, self.numbers())
        assert proof == keys.proof(self.secret, keys.DIALLER), "another secret"
        self.message(message(KEY, OURS.own + keys.proof(self.secret, keys.DIALLED)))


def dial(connector, acceptor, seconds=3, **what):
    """A link to the connector's point, as if one were the acceptor; None if it is refused each time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            link = Link(connector, acceptor, **what)
        except OSError:
            time.sleep(0.005)
            continue
        if link.linked:
            return link
        time.sleep(0.02)
    return None


def accept(slot, offset):
    ring = struct.pack(">QII", RINGS, 0, RING)
    return message(ACCEPT, struct.pack(">II", slot, SLOT) + ring + os.urandom(keys.NONCE_SIZE) + struct.pack(">Q", offset))
