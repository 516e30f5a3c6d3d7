"""visits.py HOST PORT COUNT REQUESTS SECONDS: COUNT connections, one after the other, each of REQUESTS requests with a pause between
them."""

import sys
import time

import resp


def main(host, port, count, requests, seconds):
    for _ in range(int(count)):
        client = resp.connect(host, port, lane=False)
        for at in range(int(requests)):
            time.sleep(float(seconds) if at else 0)
            assert client.ask("PING") == b"PONG"
        client.close()


main(*sys.argv[1:])
