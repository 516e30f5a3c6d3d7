"""knocking.py WAY PID...: a caller of the control sockets of these processes. silent says nothing, garbage says what no operator
would, flood asks and never listens; all until SIGTERM. refused expects to be sent away."""

import os
import signal
import socket
import struct
import sys

PREFIX = "@rsock-control-"
GARBAGE = (b"", b"\0", b"rsco", b"rsco\0\1\0\0\0", b"rsco\0\1\0\0\0\0\0", b"rsco\0\1\4\0\0\0", b"rsco\0\1\0\1\0\0", b"rsco\0\2\0\0\0\0",
           b"RSCO\0\1\0\0\0\0", b"x" * 10, os.urandom(64), b"x" * 60000)
TELL = b"rsco" + struct.pack(">HBBH", 1, 0, 0, 0)


def doors():
    with open("/proc/net/unix") as lines:
        names = [line.split()[-1] for line in lines if PREFIX in line and line.split()[3] == "00010000"]
    return ["\0" + name[1:] for name in names]


def owner(sock):
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def connect(door):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(door)
    sock.settimeout(20)
    return sock


def said(sock, words):
    """What comes back; nothing when it was hung up."""
    try:
        sock.send(words)
        return sock.recv(65536)
    except (BrokenPipeError, ConnectionResetError):
        return b""


def main(way, *pids):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    found = [door for door in doors() if str(owner(connect(door))) in pids]
    assert len(found) == len(pids), f"{len(found)} control sockets"
    kept = []
    for door in found:
        if way == "refused":
            assert said(connect(door), TELL) == b"", "a stranger was heard"
            continue
        assert said(connect(door), TELL).startswith(b"rsco"), "not even an operator was heard"
        if way == "silent":
            kept += [connect(door) for _ in range(30)]
        elif way == "garbage":
            for words in GARBAGE:
                assert said(connect(door), words) == b"", f"{words[:20]!r} was answered"
        elif way == "flood":
            for _ in range(8):
                kept.append(connect(door))
                kept[-1].setblocking(False)
                try:
                    while True:
                        kept[-1].send(TELL)
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
    print("ready", flush=True)
    if way != "refused":
        signal.sigwait({signal.SIGTERM})
    print("done", flush=True)


main(*sys.argv[1:])
