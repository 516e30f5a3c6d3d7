"""knocks.py WHAT ADDRESS PORT CLIENT-PORT: a stranger that plays one end of somebody else's connection, of which the other end uses
librsock.

  server   the client's server: dials its rendezvous point, claims the connection, has the token written to TCP, reads what comes
  client   the server's client, which does not use librsock: takes the name of its rendezvous point, accepts the server's claim,
           shows no token, reads what comes
  silent   comes to the client's point eight times, and says nothing

Prints what came of it ("refused", "linked"; "offered" where the connection itself was; "silent"), and "read N bytes"."""

import socket
import struct
import sys
import time

from near_peer import ACCEPT, CLAIM, CONFIRM, DATA, claim, message
from shared import Memory, Point, accept, dial, point_name, say


def read(memory, seconds=3):
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        entry = memory.take()
        if entry and entry[0] == DATA:
            total += entry[1]
            say(f"read {total} bytes")
        elif not entry:
            time.sleep(0.001)


def server(connector, acceptor):
    link = dial(connector, acceptor)
    if not link:
        return say("refused")
    say("linked")
    memory = Memory(link.own_fd)
    link.message(claim(connector, acceptor))
    answer = memory.wait(ACCEPT)
    if not answer:
        return say("declined")
    say("offered")
    slot, offset = struct.unpack_from(">I", answer, 12)[0], struct.unpack_from(">Q", answer, 48)[0]
    link.message(message(CONFIRM, struct.pack(">IQ", slot, offset)))
    read(memory)


def client(connector, acceptor):
    point = Point(connector, acceptor)
    say("squatting")
    link = point.answer(5)
    if not link:
        return say("refused")
    say("linked")
    memory = Memory(link.own_fd)
    link.agree(memory)
    claimed = memory.wait(CLAIM)
    if not claimed:
        return say("nothing was claimed")
    say("offered")
    slot = struct.unpack_from(">I", claimed, 8)[0]
    link.message(accept(slot, 0))
    read(memory)


def silent(connector, acceptor):
    held, end = [], time.monotonic() + 3
    while len(held) < 8 and time.monotonic() < end:
        visitor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        visitor.setblocking(False)
        try:
            visitor.connect(point_name(connector, acceptor))
        except OSError:
            time.sleep(0.002)
            continue
        held.append(visitor)
        time.sleep(0.01)  # each has a place of its own, or none
    say("silent" if len(held) == 8 else "too late")
    time.sleep(10)


def main(what, address, port, client_port):
    {"server": server, "client": client, "silent": silent}[what]((address, int(client_port)), (address, int(port)))


main(*sys.argv[1:])
