"""echoing.py HOST PORT HOSTILE COUNT: sends back whatever comes on COUNT connections to the port HOSTILE, each opened when the
last one was probed or has ended, and meanwhile writes and reads values on one connection to the Redis server at PORT, which
must be in its lane. Goes on until SIGTERM; prints how many values were right."""

import os
import signal
import socket
import sys
import threading

import resp

stopped = threading.Event()
PROBED = b"x" * 57 + b"\r\n"  # what tests/programs/hostile ends its PING with


def echo(sock, over):
    seen = b""
    try:
        while data := sock.recv(1 << 16):
            sock.sendall(data)
            seen = (seen + data)[-100:]
            if PROBED in seen:
                over.set()
    except OSError:
        pass
    finally:
        over.set()
        sock.close()


def provoke(host, port, count):
    for _ in range(count):
        over = threading.Event()
        threading.Thread(target=echo, args=(socket.create_connection((host, port)), over), daemon=True).start()
        over.wait(20)


def main(host, port, hostile, count):
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    good = resp.connect(host, port)
    print("ready", flush=True)
    threading.Thread(target=provoke, args=(host, int(hostile), int(count)), daemon=True).start()
    right = 0
    while not stopped.is_set():
        value = os.urandom(1 << right % 16)
        assert good.ask("SET", "echoing", value) == b"OK"
        assert good.ask("GET", "echoing") == value
        right += 1
        stopped.wait(0.005)
    print(right, flush=True)
    os._exit(0)  # the threads wait for whatever their peers leave open


main(*sys.argv[1:])
