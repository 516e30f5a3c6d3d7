"""honest_once.py server|client ADDRESS PORT [OTHER-PORT]: one end of a connection of its own, over which it makes a link to the other end,
which uses librsock. Then a connection of somebody else's comes up between the same two addresses, and it wants that one, too.

  client   connects to PORT, and waits for the server to claim any other connection on the link
  server   accepts a connection at PORT, and claims that from the client's port OTHER-PORT + 1 to the server at OTHER-PORT

Prints "linked", then "offered" if it is offered the other connection, or "declined"."""

import socket
import struct
import sys
import time

from near_peer import ACCEPT, CLAIM, DECLINE, claim, message
from shared import Memory, Point, dial, say


def client(address, port):
    sock = socket.socket()
    sock.bind((address, 0))
    own, server = sock.getsockname(), (address, int(port))
    point = Point(own, server)
    sock.connect(server)
    sock.sendall(b"ask 0 \n")
    link = point.answer(8)
    if not link:
        return say("refused")
    memory, end = Memory(link.own_fd), time.monotonic() + 10
    link.agree(memory)
    while time.monotonic() < end:
        claimed = memory.wait(CLAIM, 1)
        if not claimed:
            continue
        named = struct.unpack_from(">H", claimed, 12 + 17)[0]
        if named == own[1]:
            say("linked")
            link.message(message(DECLINE, struct.pack(">IB", struct.unpack_from(">I", claimed, 8)[0], 2)))
        else:
            return say("offered")
    say("declined")


def server(address, port, other):
    listener = socket.create_server((address, int(port)))
    say("listening")
    sock, connector = listener.accept()
    link = dial(connector, (address, int(port)))
    if not link:
        return say("refused")
    memory = Memory(link.own_fd)
    link.message(claim(connector, (address, int(port))))
    if not memory.wait(ACCEPT):
        return say("refused")
    say("linked")
    sys.stdin.readline()  # the other connection is there
    end = time.monotonic() + 2
    while time.monotonic() < end:
        link.message(claim((address, int(other) + 1), (address, int(other))))
        got = memory.wait((ACCEPT, DECLINE), 2)
        if got and got[0] == ACCEPT:
            return say("offered")
        time.sleep(0.05)
    say("declined")


def main(what, *arguments):
    {"server": server, "client": client}[what](*arguments)
    time.sleep(2)


main(*sys.argv[1:])
