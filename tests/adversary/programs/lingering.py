"""A TCP connection that makes whoever closes its last descriptor wait: its peer reads nothing, and it lingers."""

import array
import contextlib
import glob
import os
import signal
import socket
import struct
import time

LINGER_SECONDS = 20
peers = {}  # by descriptor, as long as this process lives


def lingering():
    """Its only descriptor."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        peer = listener.accept()[0]
    sock.setblocking(False)
    try:
        while True:
            sock.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_SECONDS))
    fd = sock.detach()
    peers[fd] = [*peers.get(fd, ()), peer]
    return fd


@contextlib.contextmanager
def stopped(pid):
    """What it is given meanwhile is nobody else's by the time that it gets it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while not all(at_rest(task) for task in glob.glob(f"/proc/{pid}/task/*/stat")):  # a thread may run on for a moment
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def at_rest(stat):
    try:
        with open(stat) as line:
            return line.read().rpartition(") ")[2][0] == "T"
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return True


def other_end(sock):
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def give(to, packet, fds):
    """Afterwards nobody has them but the receiver. Whether that took them."""
    given = True
    try:
        to.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))], socket.MSG_NOSIGNAL)
    except OSError as error:
        print("not given:", error, flush=True)
        given = False
        for fd in fds:
            peers.pop(fd, None)  # or the closing would take its time here
    for fd in fds:
        os.close(fd)
    return given
