"""ends.py server|client HOW HOST PORT SIZE: one connection in its lane that ends in one way, and every byte accounted for.

  close    the server writes SIZE bytes and closes at once; the client reads them slowly, then end of stream
  half     the client writes SIZE bytes, shuts its sending side down and reads them back until end of stream
  return, sys_exit, os_exit, abort_itself, terminate, fault   the client writes SIZE bytes and ends so, without closing; the server reads them all
  abort    the client closes with SO_LINGER 0 while there are SIZE bytes to read; the server gets ECONNRESET
"""

import ctypes
import os
import random
import resource
import signal
import socket
import struct
import sys
import time

import resp


def content(size):
    return random.Random(size).randbytes(size)


def enter_lane(sock, first):
    """Ping-pong until both ends are in their lane: the client decides, the server answers until told."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not first:
        while (word := sock.recv(1)) == b"p":
            sock.sendall(word)
        assert word == b"!", word
        sock.sendall(b"!")
        return
    deadline = time.monotonic() + resp.patience()
    while not resp.in_lane(sock):
        assert time.monotonic() < deadline, "the connection did not get into its lane"
        sock.sendall(b"p")
        assert sock.recv(1) == b"p"
    for word in b"p", b"!":
        sock.sendall(word)
        assert sock.recv(1) == word


def read_to_end(sock, wanted, pause=0.0):
    got = bytearray()
    while data := sock.recv(50000):
        got += data
        time.sleep(pause)
    assert len(got) == len(wanted), f"{len(got)} of {len(wanted)} bytes, then end of stream"
    assert got == wanted, "the bytes differ"
    print("all is there", flush=True)


def serve(how, sock, data):
    if how == "close":
        sock.sendall(data)
        sock.close()
    elif how == "half":
        got = bytearray()
        while piece := sock.recv(1 << 16):
            got += piece
        sock.sendall(got)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    elif how == "abort":
        sock.sendall(data)
        try:
            while True:
                assert sock.recv(100) != b"", "a clean end"
        except ConnectionResetError:
            print("reset", flush=True)
    else:
        read_to_end(sock, data, 0.01)


def use(how, sock, data):
    if how == "close":
        time.sleep(0.5)  # the server has closed by then
        read_to_end(sock, data, 0.002)
    elif how == "half":
        sock.setblocking(True)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        read_to_end(sock, data)
    elif how == "abort":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.2)
        sock.close()
    else:
        sock.sendall(data)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if how == "os_exit":
            os._exit(0)
        if how == "abort_itself":
            os.abort()
        if how == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        if how == "fault":
            ctypes.string_at(0)
        if how == "sys_exit":
            sys.exit(0)


def main(side, how, host, port, size):
    address, data = (host, int(port)), content(int(size))
    if side == "client":
        sock = socket.create_connection(address)
        enter_lane(sock, True)
        use(how, sock, data)
        return
    with socket.create_server(address) as listener:
        print("listening", flush=True)
        sock, _ = listener.accept()
    enter_lane(sock, False)
    serve(how, sock, data)


main(*sys.argv[1:])
