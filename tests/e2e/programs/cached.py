"""cached.py HOST PORT: stores values in memcached and gets them back, on connections that have entered their lane."""

import random
import socket
import sys
import time

import resp


def ask(sock, question, end):
    sock.sendall(question)
    got = b""
    while not got.endswith(end):
        piece = sock.recv(65536)
        assert piece, "the stream ended"
        got += piece
    return got


def turn(sock, key, value):
    assert ask(sock, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), b"\r\n") == b"STORED\r\n"
    assert ask(sock, b"get %s\r\n" % key, b"END\r\n") == b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(value), value)


def main(host, port):
    socks = [socket.create_connection((host, int(port))) for _ in range(3)]
    deadline = time.monotonic() + resp.patience()
    while not all(map(resp.in_lane, socks)):
        assert time.monotonic() < deadline, "the connections did not get into their lane"
        for sock in socks:
            turn(sock, b"small", b"v")
    for size in 1, 100, 10000, 100000:
        value = random.Random(size).randbytes(size // 2).hex().encode() or b"x"
        for sock in socks:
            turn(sock, b"key:%d" % size, value)
    print("every byte right", flush=True)


main(*sys.argv[1:])
