"""idle.py HOST PORT CONNECTIONS [any]: many connections, in their lane unless `any`, each used there once; then nothing until
SIGTERM, upon which each is used again."""

import selectors
import signal
import sys
import time

import resp


def main(host, port, connections, lane="lane"):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    loop = resp.Loop(selectors.EpollSelector)
    count = int(connections)
    for _ in range(count):
        loop.connect(host, port)
        if len(loop.clients) % 100 == 0:
            loop.ask_all(lambda i: ("PING",))
    loop.ask_all(lambda i: ("PING",))
    deadline = time.monotonic() + resp.patience()
    while lane != "any" and open(resp.lane_log()).read().count("is in its lane") < count:
        assert time.monotonic() < deadline, "the connections did not get into their lane"
        time.sleep(0.05)
    loop.ask_all(lambda i: ("PING",))
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    for turn in range(2):
        assert loop.ask_all(lambda i: ("ECHO", f"{turn}:{i}")) == [b"%d:%d" % (turn, i) for i in range(count)]
    print("all answered", flush=True)


main(*sys.argv[1:])
