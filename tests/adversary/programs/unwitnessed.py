"""unwitnessed.py ADDRESS PORT MISDEED: a client of its own connection, of its own user, that enters the lane as it should, as far as its
server's token, and then does MISDEED with WITNESS, when its server (talk.py with librsock, which answers a while later) has something to
say. Prints "in the ring" if that comes there before WITNESS, "lost" or "kept" for the link, and what has come of all that was said: "as it
was written", or "rewritten"."""

import os
import socket
import struct
import sys
import time

sys.argv[1:], arguments = ["nothing"], sys.argv[1:]
import keys  # noqa: E402
from near_peer import CLAIM, CONFIRM, DATA, FIN, RINGS, WITNESS, message  # noqa: E402
from shared import RING_OF_CLAIM, Memory, Point, accept, receive, say  # noqa: E402
from talk import line  # noqa: E402

HELD = 0.6  # seconds, in which the other end has something to say
FRAME = struct.Struct(">B7xQQ")  # behind the token


class Client:
    """The connecting end. `raw`: what came by TCP, but for marks and frames. `asked` and `told`: what was put into the rings."""

    def __init__(self, address, port):
        self.sock = socket.socket()
        self.sock.bind((address, 0))
        point = Point(self.sock.getsockname(), (address, int(port)))
        self.sock.connect((address, int(port)))
        self.sock.settimeout(10)
        self.sock.sendall(line(b"ask", 0))
        self.link = point.answer(5)
        self.memory = Memory(self.link.own_fd)
        self.link.agree(self.memory)
        self.raw, self.asked, self.told = receive(self.sock, len(line(b"answer", 0))), b"", b""

    def confirm(self):
        """As far as CONFIRM. What is asked before is answered in the lane."""
        claimed = self.memory.wait(CLAIM)
        self.slot, = struct.unpack_from(">I", claimed, 8)
        self.place, = struct.unpack_from(">Q", claimed, RING_OF_CLAIM)
        self.offset = len(line(b"ask", 0) + line(b"ask", 1))
        accepted = accept(self.slot, self.offset)
        self.link.message(accepted)
        self.sock.sendall(line(b"ask", 1))
        self.boundary, = struct.unpack_from(">Q", self.memory.wait(CONFIRM), 12)
        self.cutover = keys.Cutover(self.link.secret, claimed[8:], accepted[8:])

    def show(self):
        """As far as the other end's token."""
        self.mark = self.cutover.mark(keys.CONNECTOR, self.offset, keys.fresh())
        self.sock.sendall(self.mark)
        self.raw += receive(self.sock, self.boundary - len(self.raw))
        self.seen = receive(self.sock, keys.MARK_SIZE)
        assert self.cutover.is_mark(self.seen, keys.ACCEPTOR, self.boundary, keys.fresh_in(self.mark)), "another token"
        self.hear(HELD)
        if self.told:
            say("in the ring")

    def witness(self, code=None):
        code = code or self.cutover.witness(*map(keys.fresh_in, (self.mark, self.seen)))
        self.link.message(message(WITNESS, struct.pack(">I", self.slot) + code))

    def write(self, data):
        at = self.place + len(self.asked)
        self.link.memory[at:at + len(data)] = data
        self.asked += data
        self.link.post(DATA, len(data), self.slot)

    def hear(self, seconds, most=None):
        """What comes in the ring."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (most is None or len(self.told) < most):
            entry = self.memory.take()
            if entry and entry[0] == DATA:
                self.told += self.memory.own[RINGS + len(self.told):RINGS + len(self.told) + entry[1]]
            elif not entry:
                time.sleep(0.0005)

    def hear_all(self, last):
        """The answers up to that one, in the ring or before it."""
        answers = b"".join(line(b"answer", number) for number in range(last + 1))
        self.hear(5, len(answers) - len(self.raw))
        assert self.raw + self.told == answers, f"rewritten: {self.raw + self.told}"

    def go_back(self):
        """By TCP from now on."""
        self.sock.sendall(self.mark + FRAME.pack(1, len(self.told), len(self.asked)))
        frame = receive(self.sock, keys.MARK_SIZE + FRAME.size)
        assert frame[:keys.MARK_SIZE] == self.seen, f"no frame of its: {frame}"
        kind, taken, _ = FRAME.unpack(frame[keys.MARK_SIZE:])
        say(f"went back by {kind} after {taken} bytes")
        self.sock.sendall(self.asked[taken:])

    def compare(self, asked):
        """With the answers to all questions up to that one, and to one more."""
        last = asked + 1
        self.sock.sendall(line(b"ask", last))
        expected = b"".join(line(b"answer", number) for number in range(last + 1))
        got = self.raw + self.told
        got += receive(self.sock, len(expected) - len(got))
        say("as it was written" if got == expected else f"rewritten: {got}")


def cost(client, misdeed, asked):
    """It is the link."""
    misdeed()
    say("lost" if client.link.lost() else "kept")
    client.go_back()
    client.compare(asked)


def in_lane(client):
    client.witness()
    client.write(line(b"ask", 2))
    client.hear_all(2)


def right(client):
    in_lane(client)
    say("lost" if client.link.lost(0.5) else "kept")
    say("as it was written")


def early(client):
    """Nobody can know it yet; no token is shown, and raw bytes are there in its place."""
    client.link.message(message(WITNESS, struct.pack(">I", client.slot) + os.urandom(16)))
    say("lost" if client.link.lost() else "kept")
    client.compare(1)


def late(client):
    """The client leaves before it says WITNESS: nothing comes of that."""
    client.go_back()
    client.witness()
    say("lost" if client.link.lost(0.5) else "kept")
    client.compare(1)


BEHIND_TOKEN = {
    "right": right,
    "late": late,
    "wrong": lambda client: cost(client, lambda: client.witness(os.urandom(16)), 1),
    "swapped": lambda client: cost(
        client, lambda: client.witness(client.cutover.witness(*map(keys.fresh_in, (client.seen, client.mark)))), 1),
    "none": lambda client: cost(client, lambda: client.write(line(b"ask", 2)), 2),
    "end-for-it": lambda client: cost(client, lambda: client.link.message(
        message(FIN, struct.pack(">IQB", client.slot, 0, 0))), 1),
    "twice": lambda client: (in_lane(client), cost(client, client.witness, 2)),
    "wrong-again": lambda client: (in_lane(client), cost(client, lambda: client.witness(os.urandom(16)), 2)),
}


def main(address, port, misdeed):
    client = Client(address, port)
    client.confirm()
    if misdeed == "early":
        return early(client)
    client.show()
    BEHIND_TOKEN[misdeed](client)


main(*arguments)
