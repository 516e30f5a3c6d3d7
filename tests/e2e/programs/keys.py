"""What the two ends of a link, and of a flow, know each other by, as docs/protocol.md and core/keys have it: X25519 (RFC 7748) and BLAKE2b.
It hides nothing from whoever measures time."""

import hashlib
import os
import struct

DIALLER, DIALLED = 0, 1  # of a link
CONNECTOR, ACCEPTOR = 0, 1  # of a flow
KEY_SIZE, NONCE_SIZE, TAG_SIZE, FRESH_SIZE, MARK_SIZE = 32, 16, 8, 16, 40
NOTHING = bytes(FRESH_SIZE)  # what the connector's mark answers

PRIME = 2**255 - 19


def x25519(scalar, point):
    """RFC 7748, section 5."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    u = int.from_bytes(point, "little") & ~(1 << 255)
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for bit in range(254, -1, -1):
        wanted = k >> bit & 1
        if wanted != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = wanted
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb)**2 % PRIME, u * (da - cb)**2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(KEY_SIZE, "little")


def hashed(size, word, *parts, key=b""):
    return hashlib.blake2b(word.ljust(16, b"\0") + b"".join(parts), digest_size=size, key=key).digest()


class KeyPair:
    def __init__(self):
        self.private = os.urandom(KEY_SIZE)
        self.own = x25519(self.private, (9).to_bytes(KEY_SIZE, "little"))

    def link(self, peer, own_end, numbers):
        """What this pair and the peer's public key make of a link on which this one is that end. `numbers`: what the medium calls this end,
        and the peer."""
        order = 1 if own_end == DIALLER else -1
        return hashed(32, b"rsock link", x25519(self.private, peer), *(self.own, peer)[::order], struct.pack(">II", *numbers[::order]))


def proof(link, end):
    return hashed(16, b"rsock proof", bytes([end]), key=link)


def fresh():
    return os.urandom(FRESH_SIZE)


def fresh_in(mark):
    return mark[-FRESH_SIZE:]


class Cutover:
    """The marks of one cutover; `claim` and `accept` are the bodies of these messages."""

    def __init__(self, link, claim, accept):
        # Each ends with its nonce, or has nothing but the offset behind it.
        self.nonces = claim[-NONCE_SIZE:] + accept[-NONCE_SIZE - 8:-8]
        self.key = hashed(32, b"rsock cutover", self.nonces, struct.pack(">Q", len(claim)), claim,
                          struct.pack(">Q", len(accept)), accept, key=link)

    def tag(self, side, offset):
        return hashed(16, b"rsock tag", self.nonces, struct.pack(">BQ", side, offset))[:TAG_SIZE]

    def mark(self, side, offset, fresh, answered=NOTHING):
        return self.tag(side, offset) + hashed(16, b"rsock mac", struct.pack(">BQ", side, offset), fresh, answered, key=self.key) + fresh

    def is_mark(self, seen, side, offset, answered=NOTHING):
        return seen == self.mark(side, offset, fresh_in(seen), answered)

    def no(self, offset, answered):
        """The acceptor's."""
        return self.tag(ACCEPTOR, offset) + hashed(16, b"rsock no", self.nonces, struct.pack(">Q", offset), answered) + NOTHING

    def witness(self, connectors, acceptors):
        """That both have read what is fresh in the other's mark; the connector says it."""
        return hashed(16, b"rsock witness", connectors, acceptors, key=self.key)
