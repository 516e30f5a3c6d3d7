"""near_peer.py ADDRESS PORT MISDEED: an accepting end on this host that plays the shared-memory side of the protocol by hand, and
not as it should be. Never preloaded.

Accepts one connection and answers each line on it with itself. After the first, it dials the connection's rendezvous point and
does MISDEED. Prints what came of the dial ("refused", "linked", "nobody"), then "lost" when the other end has let go of the
link."""

import array
import fcntl
import mmap
import os
import random
import socket
import struct
import sys
import threading
import time

import keys

MAGIC, VERSION = 0x7273636B, 2
GREETING, ANSWER = 24, 24 + keys.KEY_SIZE
F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW = 1033, 2, 4
DEPTH, ENTRY, BODY = 256, 64, 1024
ENTRIES = 64                                   # behind the line with the word `sleeping`
BODIES = ENTRIES + DEPTH * ENTRY
RINGS = (BODIES + DEPTH * BODY + 4095) // 4096 * 4096
SIZE = RINGS + (1 << 20)
DATA, MESSAGE = 1, 2
KEY, CLAIM, ACCEPT, CONFIRM, DECLINE, WINDOW, BLOCKED, GROW, SWITCH, FIN, RESET, RETIRE, CREDIT, PIECES, WITNESS = range(15)
RING = 16384
SLOT = 5  # of all that is claimed or accepted here
OURS = keys.KeyPair()


def greeting(version=VERSION, receives=DEPTH):
    return struct.pack(">IHHQII", MAGIC, version, 0, random.getrandbits(64), receives, 0)


def endpoint(name):
    return struct.pack(">B16sH", 0, socket.inet_aton(name[0]), name[1])


def segment(size=SIZE, seals=F_SEAL_SHRINK | F_SEAL_GROW):
    fd = os.memfd_create("near", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def message(kind, body=b"", returned=0):
    return struct.pack(">B3xI", kind, returned) + body


class Link:
    """The dial, and what is the other end's after it. The end that dialled speaks first, and shows its key, unless it is not `keyed`."""

    def __init__(self, point, own, hello=None, fds=None, keyed=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(5)
        self.socket.bind("")
        self.own_fd = segment()
        self.connect("\0rsock-{}:{}-{}:{}".format(*point, *own))
        hello = greeting() + endpoint(own) if hello is None else hello
        fds = [self.own_fd] if fds is None else fds
        self.sent = 0
        try:
            self.socket.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
            answer, passed, _, _ = socket.recv_fds(self.socket, ANSWER, 1)
        except OSError:
            answer, passed = b"", []
        self.peer_key = answer[GREETING:]
        self.linked = len(passed) == 1
        if self.linked:
            self.memory = mmap.mmap(passed[0], os.fstat(passed[0]).st_size)
            self.their_memory, = passed
            self.secret = OURS.link(self.peer_key, keys.DIALLER, self.numbers())
            if keyed:
                self.show_key()

    def connect(self, name):
        """As soon as the point is open."""
        end = time.monotonic() + 3
        while True:
            try:
                return self.socket.connect(name)
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def numbers(self):
        """What the kernel calls the socket that dialled, for both ends."""
        return [int(self.socket.getsockname()[1:], 16)] * 2

    def show_key(self, own=OURS.own, proof=None):
        self.message(message(KEY, own + (proof or keys.proof(self.secret, keys.DIALLER))))

    def post(self, kind, length, immediate=0, body=b"", stamp=None):
        self.sent += 1
        at = ENTRIES + self.sent % DEPTH * ENTRY
        if kind == MESSAGE and len(body) > 48:
            there = BODIES + self.sent % DEPTH * BODY
            self.memory[there:there + len(body)] = body
        else:
            self.memory[at + 16:at + 16 + len(body)] = body
        struct.pack_into("=III", self.memory, at + 4, kind, length, immediate)
        struct.pack_into("=I", self.memory, at, self.sent if stamp is None else stamp)
        self.ring()

    def message(self, body):
        self.post(MESSAGE, len(body), body=body)

    def ring(self, rings=b"\1", fds=()):
        """False once it takes no more."""
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.settimeout(0)
        try:
            return self.socket.sendmsg([rings], passed, socket.MSG_NOSIGNAL) == len(rings)
        except OSError:
            return False

    def lost(self, seconds=5):
        """The other end closes the socket of the link when it has done with it; until then it rings there."""
        end = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(end - time.monotonic(), 0.0001))
            try:
                if not self.socket.recv(1):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True


def claim(connector, acceptor, address=RINGS, key=0, size=RING):
    ring = struct.pack(">QII", address, key, size)
    return message(CLAIM, struct.pack(">I", SLOT) + endpoint(connector) + endpoint(acceptor) + ring + os.urandom(keys.NONCE_SIZE))


def claim_of(sock, **what):
    """Of the connection that was accepted."""
    return claim(sock.getpeername(), sock.getsockname(), **what)


def offer(**what):
    """A dial of which nothing can come."""
    def deed(sock):
        link = Link(sock.getpeername(), sock.getsockname(), **{key: value() for key, value in what.items()})
        print("linked" if link.linked else "refused", flush=True)
    return deed


def linked(deed, keyed=True):
    """A link, and something done with it that must cost it."""
    def whole(sock):
        link = Link(sock.getpeername(), sock.getsockname(), keyed=keyed)
        if not link.linked:
            return print("refused", flush=True)
        print("linked", flush=True)
        deed(sock, link)
        print("lost" if link.lost() else "kept", flush=True)
    return whole


def scribble(sock, link):
    """Over all that the queue is made of, with entries that are right in between."""
    random.seed(1)
    for _ in range(3000):
        at = random.randrange(RINGS)
        link.memory[at:at + 8] = os.urandom(min(8, RINGS - at))
        if random.random() < 0.3:
            link.post(random.randrange(4), random.randrange(2000), random.getrandbits(24), os.urandom(40))
        link.ring()


def flood(sock, link):
    for _ in range(20000):
        link.post(DATA, 1, 3)


def starve(sock, link):
    """A link that looks as if it were there, and a bell that never stops."""
    end = time.monotonic() + 3
    while time.monotonic() < end and not link.lost(0):
        link.ring()
    link.post(9, 1)


def vanish(sock, link):
    link.message(claim_of(sock))
    time.sleep(0.05)
    link.socket.close()
    print("gone", flush=True)
    os._exit(0)


def truncate(sock, link):
    """The memory that the other end has mapped cannot be taken away."""
    try:
        os.ftruncate(link.own_fd, 0)
        print("truncated", flush=True)
    except PermissionError:
        pass
    link.message(claim_of(sock))
    time.sleep(0.2)
    link.post(9, 1)


MISDEEDS = {
    "nothing": lambda sock: print("nobody", flush=True),
    "unsealed": offer(fds=lambda: [segment(seals=0)]),
    "half-sealed": offer(fds=lambda: [segment(seals=F_SEAL_GROW)]),
    "too-small": offer(fds=lambda: [segment(size=4096)]),
    "no-memory": offer(fds=lambda: [os.open("/dev/zero", os.O_RDWR)]),
    "pipe": offer(fds=lambda: [os.pipe()[1]]),
    "two-descriptors": offer(fds=lambda: [segment(), os.eventfd(0)]),
    "no-descriptors": offer(fds=lambda: []),
    "many-descriptors": offer(fds=lambda: [segment(), os.eventfd(0)] * 20),
    "short-hello": offer(hello=lambda: b"rsck"),
    "other-version": offer(hello=lambda: greeting(version=VERSION + 6) + endpoint(("127.0.0.2", 1))),
    "stranger": offer(hello=lambda: greeting() + endpoint(("10.9.8.7", 1))),
    "message-before-key": linked(lambda sock, link: link.message(claim_of(sock)), keyed=False),
    "second-key": linked(lambda sock, link: link.show_key()),
    "wrong-proof": linked(lambda sock, link: link.show_key(proof=os.urandom(16)), keyed=False),
    "proof-of-other-end": linked(lambda sock, link: link.show_key(proof=keys.proof(link.secret, keys.DIALLED)), keyed=False),
    "key-of-somebody-else": linked(lambda sock, link: link.show_key(own=keys.KeyPair().own), keyed=False),
    "key-of-small-order": linked(lambda sock, link: link.show_key(own=bytes(keys.KEY_SIZE)), keyed=False),
    "wrong-stamp": linked(lambda sock, link: link.post(DATA, 1, 0, stamp=77)),
    "wrong-kind": linked(lambda sock, link: link.post(9, 1)),
    "long-message": linked(lambda sock, link: link.post(MESSAGE, 1 << 31)),
    "empty-message": linked(lambda sock, link: link.post(MESSAGE, 0)),
    "data-for-nobody": linked(lambda sock, link: link.post(DATA, 100, 3)),
    "ring-in-the-queue": linked(lambda sock, link: link.message(claim_of(sock, address=0))),
    "ring-beyond": linked(lambda sock, link: link.message(claim_of(sock, address=SIZE - 4096))),
    "ring-far-away": linked(lambda sock, link: link.message(claim_of(sock, address=(1 << 64) - 8192))),
    "ring-of-no-segment": linked(lambda sock, link: link.message(claim_of(sock, key=1))),
    "scribble": linked(scribble),
    "flood": linked(flood),
    "bell-without-end": linked(starve),
    "truncate": linked(truncate),
    "vanish": linked(vanish),
}


def main(address, port, misdeed):
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    sock, _ = listener.accept()
    done = False
    with sock.makefile("rb") as lines:
        while line := lines.readline():
            sock.sendall(line)
            if not done:
                done = True
                threading.Thread(target=MISDEEDS[misdeed], args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
