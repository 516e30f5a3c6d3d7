"""edges.py HOST PORT: the same requests with EPOLLET, with EPOLLET|EPOLLONESHOT and with EPOLLONESHOT; and no event twice."""

import os
import select
import sys

import resp


class Edged:
    def __init__(self, host, port, flags):
        self.client = resp.connect(host, port)
        self.sock = self.client.sock
        self.sock.setblocking(False)
        self.flags = flags
        self.epoll = select.epoll()
        self.mask = select.EPOLLIN | select.EPOLLOUT | flags
        self.epoll.register(self.sock, self.mask)

    def wait(self):
        events = self.epoll.poll(60)
        assert events, "no event for a minute"
        if self.flags & select.EPOLLONESHOT:
            assert not self.epoll.poll(0), "an event after the one shot"
            self.epoll.modify(self.sock, self.mask)

    def ask(self, *words):
        data, replies = memoryview(resp.encode(*words)), self.client.parser.replies
        while data or not replies:
            moved = False
            try:
                if data:
                    data = data[self.sock.send(data):]
                    moved = True
            except BlockingIOError:
                pass
            try:
                while True:
                    got = self.sock.recv(65536)
                    assert got, "the server closed the connection"
                    self.client.parser.feed(got)
                    moved = True
            except BlockingIOError:
                pass
            if not moved:
                self.wait()
        return replies.popleft()


def main(host, port):
    for flags in (select.EPOLLET, select.EPOLLET | select.EPOLLONESHOT, select.EPOLLONESHOT):
        edged = Edged(host, port, flags)
        for i in range(300):
            value = os.urandom(i * 37)
            assert edged.ask("SET", "edge", value) == b"OK"
            assert edged.ask("GET", "edge") == value
        value = os.urandom(3 << 20)
        assert edged.ask("SET", "edge", value) == b"OK"
        assert edged.ask("GET", "edge") == value
        if flags == select.EPOLLET:  # at rest: one report of what is new, and then none
            while edged.epoll.poll(0.1):
                pass
            edged.sock.send(resp.encode("PING"))
            assert edged.epoll.poll(10)
            quiet = sum(bool(edged.epoll.poll(0.02)) for _ in range(30))
            assert quiet <= 2, f"{quiet} reports of one reply that nobody reads"
            edged.client.parser.feed(edged.sock.recv(100))
            assert edged.client.parser.replies.popleft() == b"PONG"


main(*sys.argv[1:])
