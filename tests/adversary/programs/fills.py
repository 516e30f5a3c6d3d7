"""fills.py ADDRESS PORT MISDEED: an end of its own connection, of its own user, that wants the other end, which uses librsock, to take
more into its memory than TCP would. Answers one line, and then

  huge-n       enters the lane as it should, but for the bytes by TCP that it says come before it: two gigabytes; lets go of the link
               and sends them
  near-n       the same with 12 megabytes, which two kernels might hold
  huge-n-of-client  the first, by the end that connects: the other one accepts its connection and dials its point
  liar         dials with a greeting that refuses, and names no receive at all
  many-receives  dials with more receives than a queue has

Prints "linked" or "refused", "shown" when it was shown a token for that, or told of one, and how many bytes TCP has taken from it."""

import contextlib
import socket
import struct
import sys
import time

import keys
import near_peer
from near_peer import ACCEPT, BLOCKED, CLAIM, CONFIRM, Link, claim, endpoint, greeting, message
from shared import LINKED, Memory, Point, accept, dial, say

SECONDS = 6
HUGE, NEAR = 2 << 30, 12 << 20


def name(sock, distance):
    own, remote = sock.getsockname(), sock.getpeername()
    link = dial(remote, own)
    if not link:
        return say("refused")
    say("linked")
    memory = Memory(link.own_fd)
    claimed = claim(remote, own)
    link.message(claimed)
    accepted = memory.wait(ACCEPT)
    slot = struct.unpack_from(">I", accepted, 12)[0]
    link.message(message(CONFIRM, struct.pack(">IQ", slot, distance)))
    link.message(message(BLOCKED, struct.pack(">I", slot)))  # so that the reader is not waited for
    offset, = struct.unpack_from(">Q", accepted, 48)
    cutover = keys.Cutover(link.secret, claimed[8:], accepted[8:])
    sock.settimeout(1)
    with contextlib.suppress(TimeoutError):
        if cutover.is_mark(sock.recv(100)[-keys.MARK_SIZE:], keys.CONNECTOR, offset):
            say("shown")
    link.socket.close()
    pour(sock, distance)


def name_as_client(address, port):
    sock = socket.socket()
    sock.bind((address, 0))
    point = Point(sock.getsockname(), (address, int(port)))
    sock.connect((address, int(port)))
    sock.sendall(b"hello\n")
    link = point.answer(5)
    if not link:
        return say("refused")
    say("linked")
    memory = Memory(link.own_fd)
    link.agree(memory)
    slot = struct.unpack_from(">I", memory.wait(CLAIM), 8)[0]
    link.message(accept(slot, HUGE))
    link.message(message(BLOCKED, struct.pack(">I", slot)))
    if memory.wait(CONFIRM, 1):
        say("shown")
    link.socket.close()
    pour(sock, HUGE)
    time.sleep(5)


def pour(sock, most):
    """Whatever TCP takes within some seconds."""
    sock.setblocking(False)
    sent, end, piece = 0, time.monotonic() + SECONDS, bytes(1 << 20)
    while sent < most and time.monotonic() < end:
        try:
            sent += sock.send(piece[:most - sent])
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:
            break
    say(f"TCP took {sent} bytes")


def lie(sock, words):
    link = Link(sock.getpeername(), sock.getsockname(), hello=bytes(words) + endpoint(sock.getsockname()))
    say("linked" if link.linked else "refused")


def liar(sock):
    words = bytearray(greeting(receives=0))
    struct.pack_into(">H", words, 6, LINKED)
    lie(sock, words)


MISDEEDS = {
    "huge-n": lambda sock: name(sock, HUGE),
    "near-n": lambda sock: name(sock, NEAR),
    "liar": liar,
    "many-receives": lambda sock: lie(sock, greeting(receives=near_peer.DEPTH + 1)),
}


def main(address, port, misdeed):
    if misdeed == "huge-n-of-client":
        return name_as_client(address, port)
    listener = socket.create_server((address, int(port)))
    say("listening")
    sock, _ = listener.accept()
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(1)
    sock.sendall(line)
    time.sleep(0.1)  # the point is open by then
    MISDEEDS[misdeed](sock)
    say("done")
    time.sleep(5)


main(*sys.argv[1:])
