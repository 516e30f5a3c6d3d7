"""A Redis client on sockets of its own, for programs that are run preloaded and not.

Connection blocks; Loop serves many connections with one selector, non-blocking. Both speak through Parser."""

import collections
import os
import re
import selectors
import socket
import time

CHUNK = 1 << 16


class RedisError(Exception):
    pass


def encode(*words):
    """One command."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, (bytes, bytearray, memoryview)) else str(word).encode()
        parts += [b"$%d\r\n" % len(word), word, b"\r\n"]
    return b"".join(parts)


class Parser:
    """Takes bytes as they come and gives replies in order."""

    def __init__(self):
        self.bytes = bytearray()
        self.at = 0
        self.replies = collections.deque()
        self.machine = self.run()
        next(self.machine)

    def feed(self, data):
        self.bytes += data
        next(self.machine)
        del self.bytes[:self.at]
        self.at = 0

    def run(self):
        while True:
            self.replies.append((yield from self.reply()))

    def line(self):
        start = self.at
        while (end := self.bytes.find(b"\r\n", start)) < 0:
            before = self.at
            start = max(self.at, len(self.bytes) - 1)
            yield
            start -= before - self.at
        line = bytes(self.bytes[self.at:end])
        self.at = end + 2
        return line

    def exactly(self, size):
        if len(self.bytes) - self.at < size:
            while len(self.bytes) - self.at < size:
                yield
        got = bytes(self.bytes[self.at:self.at + size])
        self.at += size
        return got

    def reply(self):
        line = yield from self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return (yield from self.exactly(int(rest) + 2))[:-2]
        assert kind == b"*", f"not a reply: {line[:60]!r}"
        if rest == b"-1":
            return None
        items = []
        for _ in range(int(rest)):
            items.append((yield from self.reply()))
        return items


def lane_log():
    match = re.match(r"\w+:(.*)", os.environ.get("RSOCK_LOG", ""))
    return match and match[1]


def in_lane(sock):
    """Whether the library has said so of this socket."""
    (host, port), (peer, peer_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    with open(lane_log(), errors="replace") as log:
        return f"flow {host}:{port} to {peer}:{peer_port} is in its lane\n" in log.read()


def patience():
    return float(os.environ.get("E2E_PATIENCE", "20"))


class Connection:
    """Blocking."""

    def __init__(self, host, port, timeout=None):
        self.sock = socket.create_connection((host, int(port)))
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = Parser()

    def send(self, *words):
        self.sock.sendall(encode(*words))

    def receive(self):
        while not self.parser.replies:
            data = self.sock.recv(CHUNK)
            if not data:
                raise EOFError("the server closed the connection")
            self.parser.feed(data)
        reply = self.parser.replies.popleft()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def ask(self, *words):
        self.send(*words)
        return self.receive()

    def enter_lane(self):
        """Keeps the connection busy until it is in its lane, which must be soon."""
        deadline = time.monotonic() + patience()
        while not in_lane(self.sock):
            assert time.monotonic() < deadline, "the connection did not get into its lane"
            assert self.ask("PING") == b"PONG"
        assert self.ask("PING") == b"PONG"
        return self

    def close(self):
        self.sock.close()


def connect(host, port, lane=True):
    connection = Connection(host, port)
    return connection.enter_lane() if lane else connection


class Client:
    """One non-blocking connection of a Loop."""

    def __init__(self, loop, host, port):
        self.loop = loop
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = Parser()
        self.pending = collections.deque()
        error = self.sock.connect_ex((host, int(port)))
        assert error in (0, 115), os.strerror(error)
        self.events = selectors.EVENT_WRITE
        loop.selector.register(self.sock, self.events, self)

    def send(self, *words):
        self.pending.append(memoryview(encode(*words)))
        self.flush()

    def flush(self):
        try:
            while self.pending:
                first = self.pending.popleft()
                sent = self.sock.send(first)
                if sent < len(first):
                    self.pending.appendleft(first[sent:])
        except BlockingIOError:
            self.pending.appendleft(first)
        self.watch(selectors.EVENT_READ | (selectors.EVENT_WRITE if self.pending else 0))

    def watch(self, events):
        if events != self.events:
            self.events = events
            self.loop.selector.modify(self.sock, events, self)

    def ready(self, events):
        if events & selectors.EVENT_WRITE:
            self.flush()
        if events & selectors.EVENT_READ:
            try:
                data = self.sock.recv(CHUNK)
            except BlockingIOError:
                return
            if not data:
                raise EOFError("the server closed the connection")
            self.parser.feed(data)


class Loop:
    """`make` is one of selectors' classes."""

    def __init__(self, make):
        self.selector = make()
        self.clients = []

    def connect(self, host, port):
        self.clients.append(Client(self, host, port))
        return self.clients[-1]

    def turn(self, timeout=60):
        ready = self.selector.select(timeout)
        assert ready, f"nothing was ready for {timeout} s"
        for key, events in ready:
            key.data.ready(events)

    def ask_all(self, command):
        """Sends command(i) on every connection; the replies, in their order."""
        for i, client in enumerate(self.clients):
            client.send(*command(i))
        while any(not client.parser.replies for client in self.clients):
            self.turn()
        return [client.parser.replies.popleft() for client in self.clients]

    def enter_lane(self):
        deadline = time.monotonic() + patience()
        while True:
            assert self.ask_all(lambda i: ("PING",)) == [b"PONG"] * len(self.clients)
            if all(in_lane(client.sock) for client in self.clients):
                break
            assert time.monotonic() < deadline, "the connections did not get into their lane"
        return self
