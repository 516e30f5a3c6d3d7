"""steady.py HOST PORT CONNECTIONS [any]: asks without a pause until SIGTERM, and prints how many answers it got. An error or a
lost connection ends it: it prints `ended after S s: ERROR` then, S being the time since the last answer."""

import os
import selectors
import signal
import sys
import time

import resp

stopped = False


def stop(*_):
    global stopped
    stopped = True


def main(host, port, connections, lane="lane"):
    signal.signal(signal.SIGTERM, stop)
    loop = resp.Loop(selectors.EpollSelector)
    for _ in range(int(connections)):
        loop.connect(host, port)
    if lane != "any":
        loop.enter_lane()
    print("ready", flush=True)
    answers, last = 0, time.monotonic()
    try:
        while not stopped:
            value = b"%d " % answers * 40
            key = f"steady:{os.getpid()}"
            assert loop.ask_all(lambda i: ("SET", f"{key}:{i}", value)) == [b"OK"] * len(loop.clients)
            assert loop.ask_all(lambda i: ("GET", f"{key}:{i}")) == [value] * len(loop.clients)
            answers += 2 * len(loop.clients)
            last = time.monotonic()
    except (OSError, EOFError) as error:
        print(f"ended after {time.monotonic() - last:.2f} s: {error!r}")
        return
    print(answers)


main(*sys.argv[1:])
