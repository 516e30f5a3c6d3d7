"""knocking.py WAY PID...: a caller of the control sockets of these processes. silent says nothing, garbage says what no operator
would, flood asks and never listens; all until SIGTERM. refused expects to be sent away. squat listens itself, at such names: never
accepts, accepts and says nothing, or answers with what a terminal obeys."""

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


def owner_of(door):
    """Doors of others may be gone by now."""
    try:
        return owner(connect(door))
    except OSError:
        return None


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


def listener():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind("\0" + PREFIX[1:] + os.urandom(8).hex())
    sock.listen(1)
    return sock


def answer_with_escapes(sock):
    escape = b"\x1b[31m\x1b]0;owned\x07\n"
    text = bytes([len(escape)]) + escape
    answer = b"rsco" + struct.pack(">HBBII5IH", 1, 0, 0, os.getpid(), 0, 1, 0, 0, 0, 0, 1) + text + struct.pack(">I", 1) + text + b"\0\0"
    while True:
        caller = sock.accept()[0]
        while caller.recv(100):
            caller.send(answer)


def squat():
    """In processes of their own: a user's process has one name."""
    kept, children = [], []
    for number in range(12):
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            kept = [listener() for _ in range(20)]
            if number == 0:
                answer_with_escapes(kept.pop())
            while number % 2:
                kept.append(kept[0].accept()[0])
            signal.pause()
        children.append(child)
    full = listener()
    for _ in range(2):  # one that is served already, and all places taken
        waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waiting.setblocking(False)
        waiting.connect(full.getsockname())
        kept.append(waiting)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    for child in children:
        os.kill(child, signal.SIGTERM)
    print("done", flush=True)


def main(way, *pids):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if way == "squat":
        return squat()
    found = [door for door in doors() if str(owner_of(door)) in pids]
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
