"""forsaken.py ADDRESS PORT USER SECONDS: talks to a Redis server, and has a child that becomes USER and does its worst to every
descriptor that it finds. Meanwhile other children use a connection of their parent's, and find it on TCP. Prints what took
longest, and how busy the library's thread was for SECONDS after the child had rung for the last time; then sleeps until a signal ends
it."""

import ctypes
import fcntl
import os
import signal
import socket
import sys
import threading
import time


def ask(sock, text):
    sock.sendall(b"ECHO %s\r\n" % text)
    answer = b""
    while answer.count(b"\n") < 2:
        got = sock.recv(4096)
        assert got, "the connection ended"
        answer += got
    assert answer.split(b"\r\n")[1] == text, answer


def fill(libc, fd):
    """An eventfd, again as soon as somebody has read it."""
    most = ctypes.c_uint64((1 << 64) - 2)
    while True:
        libc.write(fd, ctypes.byref(most), 8)


def has_said(pipe):
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return False


def do_worst(user, keep, done):
    """Fills, rings without end, and at last shuts whatever is there, but for the program's own connections; by libc's own functions,
    which know nothing of descriptors that are not the program's."""
    libc = ctypes.CDLL("libc.so.6")
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    ring = ctypes.c_char(b"\1")
    sockets = []
    for fd, kind in found.items():
        if fd <= 2 or fd in keep:
            continue
        if "eventfd" in kind:
            libc.fcntl(fd, fcntl.F_SETFL, os.O_RDWR)
            threading.Thread(target=fill, args=(libc, fd), daemon=True).start()
        elif "socket" in kind:
            libc.fcntl(fd, fcntl.F_SETFL, os.O_RDWR)
            sockets.append(fd)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for fd in sockets:
            libc.send(fd, ctypes.byref(ring), 1, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if not sockets:
            time.sleep(0.1)
    for fd in sockets:
        libc.shutdown(fd, socket.SHUT_RDWR)
    os.write(done, b"1")
    print("did its worst to", *found.values(), flush=True)
    time.sleep(60)


def busy():
    """Seconds of the library's thread so far."""
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/stat") as stat:
            before, after = stat.read().rsplit(")", 1)
        if before.endswith("(rsock"):
            fields = after.split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def main(address, port, user, seconds):
    connections = [socket.create_connection((address, int(port))) for _ in range(12)]
    for _ in range(300):
        for sock in connections:
            ask(sock, b"before")
        time.sleep(0.001)
    print("ready", flush=True)
    rung, tell_rung = os.pipe()
    os.set_blocking(rung, False)
    if os.fork() == 0:
        signal.alarm(90)
        do_worst(int(user), {sock.fileno() for sock in connections}, tell_rung)
        os._exit(0)
    mine, theirs = connections[0], connections[1:]
    worst = {"exchange": 0.0, "fork": 0.0, "child": 0.0}
    quiet = busy_before = None
    count = 0
    while quiet is None or time.monotonic() < quiet + float(seconds):
        if quiet is None and has_said(rung):
            quiet, busy_before = time.monotonic(), busy()
        begun = time.monotonic()
        ask(mine, b"%d" % count)
        worst["exchange"] = max(worst["exchange"], time.monotonic() - begun)
        count += 1
        time.sleep(0.001)
        if theirs and count % 200 == 0:
            sock = theirs.pop()
            begun = time.monotonic()
            child = os.fork()
            if child == 0:
                try:
                    ask(sock, b"child")
                    os._exit(0)
                except BaseException as error:
                    print("a child:", repr(error), flush=True)
                    os._exit(1)
            worst["fork"] = max(worst["fork"], time.monotonic() - begun)
            status = os.waitpid(child, 0)[1]
            worst["child"] = max(worst["child"], time.monotonic() - begun)
            assert status == 0, "a child was not served"
    share = (busy() - busy_before) / (time.monotonic() - quiet)
    print("worst exchange {exchange:.2f} s, worst fork {fork:.2f} s, worst child {child:.2f} s, ".format(**worst)
          + f"{count} exchanges, busy {share:.2f}", flush=True)
    signal.pause()


main(*sys.argv[1:])
