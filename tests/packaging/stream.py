"""stream.py HOST PORT CONNECTIONS: has Redis echo bytes that it knows, over several connections, with many on their way at once, until
SIGTERM; then it waits for those. Prints "ready" once all connections have had an answer, and at the end how many bytes it has
sent and received, as JSON. A wrong byte, a lost connection, or a minute of silence ends it with an error."""

import json
import random
import selectors
import signal
import socket
import sys

ON_THEIR_WAY = 16
SILENCE = 60  # seconds
stopped = False


def stop(*_):
    global stopped
    stopped = True


class Connection:
    def __init__(self, host, port, number):
        self.random = random.Random(number)
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.to_send, self.expected = bytearray(), bytearray()
        self.ends = []  # of answers, as counts of bytes
        self.sent = self.received = self.promised = 0

    def ask(self):
        while not stopped and len(self.ends) < ON_THEIR_WAY:
            size = self.random.choice((1, 100, 3000, self.random.randrange(20000)))
            said = b"$%d\r\n%b\r\n" % (size, self.random.randbytes(size))
            self.to_send += b"*2\r\n$4\r\nECHO\r\n" + said
            self.expected += said
            self.promised += len(said)
            self.ends.append(self.promised)

    def send(self):
        try:
            done = self.socket.send(self.to_send)
        except BlockingIOError:
            return
        self.sent += done
        del self.to_send[:done]

    def receive(self):
        try:
            got = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        assert got, f"the connection ended after {self.received} bytes"
        assert got == self.expected[:len(got)], f"wrong bytes after {self.received}"
        del self.expected[:len(got)]
        self.received += len(got)
        while self.ends and self.ends[0] <= self.received:
            self.ends.pop(0)


def main(host, port, connections):
    signal.signal(signal.SIGTERM, stop)
    selector = selectors.DefaultSelector()
    all_of_them = [Connection(host, int(port), number) for number in range(int(connections))]
    for one in all_of_them:
        selector.register(one.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, one)
    ready = False
    while not stopped or any(one.expected for one in all_of_them):
        for one in all_of_them:
            one.ask()
            selector.modify(one.socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if one.to_send else 0), one)
        events = selector.select(SILENCE)
        assert events or stopped, f"silence for {SILENCE} s"
        for key, what in events:
            if what & selectors.EVENT_WRITE:
                key.data.send()
            if what & selectors.EVENT_READ:
                key.data.receive()
        if not ready and all(one.received for one in all_of_them):
            ready = True
            print("ready", flush=True)
    print(json.dumps({"sent": sum(one.sent for one in all_of_them), "received": sum(one.received for one in all_of_them)}))


main(*sys.argv[1:])
