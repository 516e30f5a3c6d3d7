"""knocking_lingering.py: leaves a connection that lingers in every unix socket of the library's that is to be found, without waiting
for an answer, at SIGUSR1. Prints in how many."""

import re
import signal
import socket
import time

from lingering import give, lingering


def connected(name):
    """To a rendezvous point, which is a stream, or to a control socket, which is of packets."""
    for kind in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.connect("\0" + name)
            return sock
        except OSError:
            sock.close()
    return None


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ready = [lingering() for _ in range(10)]
    print("ready", flush=True)
    signal.sigwait({signal.SIGUSR1})
    with open("/proc/net/unix") as sockets:
        names = set(re.findall(r"@(rsock-\S+)", sockets.read()))
    given = 0
    for name, fd in zip(names, ready):
        sock = connected(name)
        if sock:  # else it is gone, or only a connection of that name is left
            given += give(sock, b"x", [fd])
            sock.close()
    print("knocked at", given, flush=True)
    time.sleep(60)


main()
