"""The two ends of honest connections. Every line says its number and a digest of it, so that either end knows a line that is not the
other's.

talk.py serve ADDRESS PORT [SECONDS [LATER]]: answers each line of each connection; reads a new one only after so many SECONDS, and answers
what it has read so many seconds LATER.
talk.py ask ADDRESS PORT OWN-PORT SECONDS: says line after line for so long and wants each answered; prints how many came. OWN-PORT 0:
any.
talk.py crowd ADDRESS PORT COUNT SECONDS: so many of these at once.

Both print "wrong: ..." at a line that is not right, or at bytes that nobody sent, and end the connection."""

import hashlib
import socket
import sys
import threading
import time


def line(word, number):
    secret = hashlib.sha256(b"%s %d" % (word, number)).hexdigest()[:number % 60].encode()
    return b"%s %d %s\n" % (word, number, secret)


def wrong(got):
    print("wrong:", got, flush=True)


def answer(sock, pause, later=0):
    time.sleep(pause)
    number = 0
    with sock, sock.makefile("rb") as lines:
        while got := lines.readline():
            if got != line(b"ask", number):
                return wrong(got)
            time.sleep(later)
            sock.sendall(line(b"answer", number))
            number += 1


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port, pause=0, later=0):
    listener = socket.create_server((address, int(port)), family=family(address), backlog=256, dualstack_ipv6=address == "::")
    print("listening", flush=True)
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], float(pause), float(later)), daemon=True).start()


def ask(address, port, own_port, seconds):
    sock = socket.socket(family(address))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, int(own_port)))
    sock.connect((address, int(port)))
    print("connected", flush=True)
    end, number = time.monotonic() + float(seconds), 0
    with sock.makefile("rb") as lines:
        while time.monotonic() < end:
            try:
                sock.sendall(line(b"ask", number))
                got = lines.readline()
            except OSError as error:
                return wrong(error)
            if got != line(b"answer", number):
                return wrong(got)
            number += 1
            time.sleep(0.002)
    print("all came:", number, flush=True)


def crowd(address, port, count, seconds):
    askers = [threading.Thread(target=ask, args=(address, port, 0, seconds)) for _ in range(int(count))]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()


if sys.argv[1] != "nothing":
    {"serve": serve, "ask": ask, "crowd": crowd}[sys.argv[1]](*sys.argv[2:])
