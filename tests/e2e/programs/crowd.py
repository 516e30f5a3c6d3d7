"""crowd.py HOST PORT CONNECTIONS ROUNDS [any]: many connections of one process, each in its lane, none mixed up."""

import os
import selectors
import sys

import resp


def main(host, port, connections, rounds, lane="lane"):
    loop = resp.Loop(selectors.EpollSelector)
    for _ in range(int(connections)):
        loop.connect(host, port)
    if lane != "any":
        loop.enter_lane()
    print("ready", flush=True)
    for round in range(int(rounds)):
        values = [b"%d/%d/%d " % (os.getpid(), i, round) * (1 + 37 * (i + round) % 300) for i in range(len(loop.clients))]
        keys = [f"crowd:{os.getpid()}:{i}" for i in range(len(values))]
        assert loop.ask_all(lambda i: ("SET", keys[i], values[i])) == [b"OK"] * len(values)
        assert loop.ask_all(lambda i: ("GET", keys[i])) == values, f"round {round}"


main(*sys.argv[1:])
