"""echoed.py HOST PORT CONNECTIONS FILE LANE: an echo server sends back what it is sent, byte for byte.

Says "begun" when each connection has carried something, and "in the lane" when each has carried something there (LANE other than
`lane`: never, and it is no matter). Until FILE is there, a little goes to and fro; then much, the sending half ends, and the stream must end."""

import os
import random
import socket
import sys
import threading
import time

import resp

MUCH = 1 << 18


def exactly(sock, size):
    got = bytearray()
    while len(got) < size and (piece := sock.recv(size - len(got))):
        got += piece
    return bytes(got)


def ask(sock, data):
    sock.sendall(data)
    answer = exactly(sock, len(data))
    assert answer == data, f"{len(answer)} bytes of {len(data)}, or wrong ones"


def finish(sock, data):
    sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    answer = exactly(sock, len(data))
    assert answer == data, f"{len(answer)} bytes of {len(data)}, or wrong ones"
    assert sock.recv(1) == b"", "the stream goes on"
    sender.join()


def main(host, port, connections, file, lane):
    socks = [socket.create_connection((host, int(port))) for _ in range(int(connections))]
    rng = random.Random(port)
    said = set()
    while not os.path.exists(file):
        there = lane == "lane" and all(map(resp.in_lane, socks))
        for sock in socks:
            ask(sock, rng.randbytes(rng.randrange(1, 300)))
        for word, true in ("begun", True), ("in the lane", there):
            if true and word not in said:
                print(word, flush=True)
                said.add(word)
        time.sleep(0.005)
    for sock in socks:
        finish(sock, rng.randbytes(MUCH))
    print("every byte right", flush=True)


main(*sys.argv[1:])
