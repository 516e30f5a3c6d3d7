"""rewrites.py server|client ADDRESS PORT: an end of its own connection, of its own user, that goes as far into the cutover as it can without
a token of its own, while the other one (talk.py with librsock) has something to say; changes what lies in its ring, and lets go of the
link. Prints "in the ring" if anything came there, and what then comes by TCP: "as it was written", or "rewritten"."""

import socket
import struct
import sys
import time

sys.argv[1:], arguments = ["nothing"], sys.argv[1:]
from near_lane import Flow  # noqa: E402
from near_peer import CLAIM, CONFIRM, DATA, RING, RINGS  # noqa: E402
from shared import Memory, Point, accept, receive, say  # noqa: E402
from talk import line  # noqa: E402

HELD = 0.02  # seconds, in which the other end has something to say


def rewrite(memory, link):
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        if (entry := memory.take()) and entry[0] == DATA:
            say("in the ring")
    memory.own[RINGS:RINGS + RING] = b"X" * RING
    link.socket.close()


def compare(sock, expected):
    sock.settimeout(10)
    got = receive(sock, len(expected))
    say("as it was written" if got == expected else f"rewritten: {got}")


def server(address, port):
    listener = socket.create_server((address, int(port)))
    say("listening")
    flow = Flow(listener.accept()[0], answer=lambda asked: line(b"answer", int(asked.split()[1])))
    flow.claim()
    assert flow.confirm(), "it gave up"
    memory = Memory(flow.link.own_fd)
    memory.taken = flow.taken
    rewrite(memory, flow.link)
    flow.send(flow.no())
    # The second question came by TCP, or waits for the end of this.
    if flow.early:
        flow.send(flow.answer(flow.early))
    compare(flow.sock, line(b"ask", 2 if flow.early else 1))


def client(address, port):
    sock = socket.socket()
    sock.bind((address, 0))
    own, server = sock.getsockname(), (address, int(port))
    point = Point(own, server)
    sock.connect(server)
    sock.sendall(line(b"ask", 0))
    link = point.answer(5)
    memory = Memory(link.own_fd)
    link.agree(memory)
    slot, = struct.unpack_from(">I", memory.wait(CLAIM), 8)
    receive(sock, len(line(b"answer", 0)))
    # What comes before the lane; its answer would come in the lane.
    link.message(accept(slot, len(line(b"ask", 0) + line(b"ask", 1))))
    sock.sendall(line(b"ask", 1))
    memory.wait(CONFIRM)
    rewrite(memory, link)
    compare(sock, line(b"answer", 1))


{"server": server, "client": client}[arguments[0]](*arguments[1:])
