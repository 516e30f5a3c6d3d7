"""supplies.py to-client|to-server token|no|seen ADDRESS PORT CLIENT-PORT FEED-PORT: a process of the user whose connection it is, who has a
link to one of its ends, which uses librsock (talk.py), and decides what the program at the other end writes (fed.py), so that it can have
a mark written where it likes.

  token, no   it knows how much is written to that program, but not what is fresh in the mark that its own is to answer, or that it has to
              witness
  seen        it reads it, as if it held the connection: then it is the peer

Prints "supplying", "offered" when it may have a mark written, "shown" when it has, "witnessed" when the other end says WITNESS, or it does,
and "read N bytes" of the ring."""

import socket
import struct
import sys
import time

sys.argv[1:], arguments = ["nothing"], sys.argv[1:]
import keys  # noqa: E402
from near_peer import ACCEPT, CLAIM, CONFIRM, DATA, DECLINE, MESSAGE, WITNESS, claim, message  # noqa: E402
from shared import RING_OF_CLAIM, Memory, Point, accept, dial, receive, say  # noqa: E402
from talk import line  # noqa: E402

HELD = 0.6  # seconds, in which the other end has something to say


def read(memory, seconds):
    """Until something comes in the ring, or WITNESS."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entry = memory.take()
        if entry and entry[0] == DATA:
            return say(f"read {entry[1]} bytes")
        if entry and entry[0] == MESSAGE and entry[3][0] == WITNESS:
            return say("witnessed")
        if not entry:
            time.sleep(0.001)


def write(link, slot, ring, data):
    link.memory[ring:ring + len(data)] = data
    link.post(DATA, len(data), slot)


def to_client(connector, acceptor, feed, which):
    feed.sendall(line(b"answer", 0))
    link = dial(connector, acceptor, 5)
    if not link:
        return say("refused")
    memory, accepted, end = Memory(link.own_fd), None, time.monotonic() + 5
    while not accepted or accepted[0] != ACCEPT:
        if time.monotonic() > end:
            return say("declined")
        claimed = claim(connector, acceptor)
        link.message(claimed)
        accepted = memory.wait((ACCEPT, DECLINE))
    say("offered")
    slot, ring = struct.unpack_from(">IQ", accepted, 12)
    boundary, = struct.unpack_from(">Q", accepted, 48)
    own = len(line(b"answer", 0))
    link.message(message(CONFIRM, struct.pack(">IQ", slot, own)))
    cutover = keys.Cutover(link.secret, claimed[8:], accepted[8:])
    shown = receive(feed, boundary + keys.MARK_SIZE)
    answered = keys.fresh_in(shown) if which == "seen" else keys.fresh()
    feed.sendall(cutover.no(own, answered) if which == "no" else cutover.mark(keys.ACCEPTOR, own, keys.fresh(), answered))
    say("shown")
    patience = 5 if which == "seen" else 0.5
    read(memory, patience)
    write(link, slot, ring, line(b"answer", 1))  # the next question would come in the ring
    read(memory, patience)


def to_server(connector, acceptor, feed, which):
    point = Point(connector, acceptor)
    feed.sendall(line(b"ask", 0))
    link = point.answer(8)
    if not link:
        return say("refused")
    memory = Memory(link.own_fd)
    link.agree(memory)
    claimed = memory.wait(CLAIM)
    if not claimed:
        return say("nothing was claimed")
    say("offered")
    slot, = struct.unpack_from(">I", claimed, 8)
    ring, = struct.unpack_from(">Q", claimed, RING_OF_CLAIM)
    own = len(line(b"ask", 0) + line(b"ask", 1))
    accepted = accept(slot, own)
    link.message(accepted)
    feed.sendall(line(b"ask", 1))  # its answer comes later, and would come in the ring
    boundary, = struct.unpack_from(">Q", memory.wait(CONFIRM), 12)
    cutover = keys.Cutover(link.secret, claimed[8:], accepted[8:])
    mark = cutover.mark(keys.CONNECTOR, own, keys.fresh())
    feed.sendall(mark)
    say("shown")
    shown = receive(feed, boundary + keys.MARK_SIZE)
    known = keys.fresh_in(shown) if which == "seen" else keys.fresh()
    read(memory, HELD)
    say("witnessed")
    link.message(message(WITNESS, struct.pack(">I", slot) + cutover.witness(keys.fresh_in(mark), known)))
    write(link, slot, ring, line(b"ask", 2))
    read(memory, 5 if which == "seen" else 0.5)


def main(whom, which, address, port, client_port, feed_port):
    feed = socket.create_connection((address, int(feed_port)))
    say("supplying")
    feed.settimeout(10)
    {"to-client": to_client, "to-server": to_server}[whom]((address, int(client_port)), (address, int(port)), feed, which)
    say("done")


main(*arguments)
