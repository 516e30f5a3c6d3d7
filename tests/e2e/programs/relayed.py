"""relayed.py HOST PORT RELAY: connects to the port RELAY, and when a byte comes from there to the Redis server at PORT, where it writes
and reads values until SIGTERM. Prints after each sixteen how many were right."""

import os
import signal
import socket
import sys

import resp

stopped = False


def stop(*_):
    global stopped
    stopped = True


def main(host, port, relay):
    signal.signal(signal.SIGTERM, stop)
    met = socket.create_connection((host, int(relay)))
    assert met.recv(1)
    redis = resp.connect(host, port, lane=False)
    right = 0
    while not stopped:
        value = os.urandom(1 << right % 16)
        assert redis.ask("SET", "relayed", value) == b"OK"
        assert redis.ask("GET", "relayed") == value
        right += 1
        if right % 16 == 0:
            print(right, flush=True)


main(*sys.argv[1:])
