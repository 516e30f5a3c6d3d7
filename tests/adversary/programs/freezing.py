"""freezing.py ADDRESS PORT MISDEED: an accepting end on this host that tries to hold its peer up by what it gives it, or by a bell that
it does not hear. Answers each line with itself; never preloaded. Says "done" when the misdeed is done, or goes on, in the lane or not."""

import socket
import struct
import sys
import threading
import time

import near_lane
import near_peer
from lingering import give, lingering, other_end, stopped
from near_peer import Link, greeting, segment


def dialled(packet, make):
    """A dial by hand: a packet with descriptors, and nothing after it."""
    def deed(sock):
        point, own = sock.getpeername(), sock.getsockname()
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        caller.connect("\0rsock-{}:{}-{}:{}".format(*point, *own))
        fds = make()
        with stopped(other_end(caller)):
            give(caller, packet(own), fds)
        time.sleep(0.5)  # the other end decides first what becomes of it
        caller.close()
    return deed


def hello(own):
    return greeting() + near_peer.endpoint(own)


def in_bell(sock):
    link = Link(sock.getpeername(), sock.getsockname())
    assert link.linked, "refused"
    fds = [lingering()]
    with stopped(other_end(link.socket)):
        give(link.socket, b"\1", fds)
    # It is seen when the rings are taken off the socket, by an end that was woken some dozens of times.
    end = time.monotonic() + 3
    while time.monotonic() < end and not link.lost(0.005):
        link.ring()
    print("lost" if link.lost() else "kept", flush=True)


def behind_hello(sock):
    """It is in the socket when that becomes a bell, and when it is closed."""
    point, own = sock.getpeername(), sock.getsockname()
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.connect("\0rsock-{}:{}-{}:{}".format(*point, *own))
    fd = lingering()
    with stopped(other_end(caller)):
        give(caller, hello(own), [segment()])
        give(caller, b"\1", [fd])
    time.sleep(0.5)
    caller.close()


def unheard(listener):
    """Wants to be rung at each message, and hears nothing: its bell is full before long."""
    flow = near_lane.Flow(listener.accept()[0])
    flow.enter()
    print("done", flush=True)
    while True:
        struct.pack_into("=I", flow.own, 0, 1)
        flow.write(flow.line())


DIALS = {
    "lingering-alone": dialled(hello, lambda: [lingering()]),
    "lingering-beside-segment": dialled(hello, lambda: [segment(), lingering()]),
    "lingering-before-segment": dialled(hello, lambda: [lingering(), segment()]),
    "many-lingering": dialled(hello, lambda: [segment(), *(lingering() for _ in range(20))]),
    "lingering-without-hello": dialled(lambda own: b"rsck", lambda: [lingering()]),
    "lingering-in-bell": in_bell,
    "lingering-behind-hello": behind_hello,
}


def main(address, port, misdeed):
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    if misdeed == "unheard-bell":
        unheard(listener)
    sock, _ = listener.accept()
    done = False

    def act():
        time.sleep(0.1)  # the point is open by then
        DIALS[misdeed](sock)
        print("done", flush=True)

    with sock.makefile("rb") as lines:
        while line := lines.readline():
            sock.sendall(line)
            if not done:
                done = True
                threading.Thread(target=act, daemon=True).start()
    time.sleep(60)  # what lingers does so while its peer is there


main(*sys.argv[1:])
