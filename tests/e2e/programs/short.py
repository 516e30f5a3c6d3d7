"""short.py HOST PORT COUNT: connects, asks once or a few times, and closes, COUNT times."""

import sys

import resp


def main(host, port, count):
    resp.connect(host, port).close()  # one in its lane, so that there is a link
    for i in range(int(count)):
        client = resp.Connection(host, port)
        for _ in range(1 + i % 3):
            assert client.ask("PING") == b"PONG"
        client.close()
    resp.connect(host, port).close()


main(*sys.argv[1:])
