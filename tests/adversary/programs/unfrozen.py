"""unfrozen.py ADDRESS HOSTILE-PORT PORT SECONDS: talks line by line to a stranger, and in another thread to a Redis server, and forks all
the while. Prints what took longest; then sleeps until a signal ends it."""

import os
import signal
import socket
import sys
import threading
import time


def talk(address, port, end, worst):
    sock = socket.create_connection((address, int(port)))
    with sock.makefile("rb") as lines:
        count = 0
        while time.monotonic() < end:
            begun = time.monotonic()
            sock.sendall(b"ECHO %d\r\n" % count)
            if lines.readline().startswith(b"$"):  # Redis
                assert lines.readline() == b"%d\r\n" % count
            worst["exchange"] = max(worst["exchange"], time.monotonic() - begun)
            count += 1
            time.sleep(0.001)
        worst["count"] = count
        time.sleep(60)


def main(address, hostile, port, seconds):
    end = time.monotonic() + float(seconds)
    strange, good = {"exchange": 0}, {"exchange": 0, "fork": 0}
    threading.Thread(target=talk, args=(address, hostile, end, strange), daemon=True).start()
    talker = threading.Thread(target=talk, args=(address, port, end, good), daemon=True)
    talker.start()
    while time.monotonic() < end:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(0)
        good["fork"] = max(good["fork"], time.monotonic() - begun)
        os.waitpid(child, 0)
        time.sleep(0.02)
    while "count" not in good:
        time.sleep(0.01)
    print("worst exchange {exchange:.2f} s, worst fork {fork:.2f} s, {count} exchanges".format(**good), flush=True)
    signal.pause()


main(*sys.argv[1:])
