"""near_bystander.py ADDRESS HOSTILE-PORT PORT SECONDS: says line after line on a connection to each port, and wants each back. What
comes of the first is of no account; prints how many came on the second, and on both whether any line was not what it should be."""

import os
import socket
import sys
import threading
import time


def talk(address, port, end, said):
    sock = socket.create_connection((address, int(port)))
    with sock.makefile("rb") as lines:
        while time.monotonic() < end:
            line = b"ECHO %d%s\r\n" % (said["count"], os.urandom(said["count"] % 100).hex().encode())
            try:
                sock.sendall(line)
                answer = lines.readline()
                if answer.startswith(b"$"):  # Redis
                    answer = b"ECHO " + lines.readline()
            except OSError as error:
                said["error"] = error
                return
            if answer != line:
                said["wrong"] = answer
                return
            said["count"] += 1
            time.sleep(0.002)


def main(address, hostile, port, seconds):
    end = time.monotonic() + float(seconds)
    first, second = {"count": 0}, {"count": 0}
    threading.Thread(target=talk, args=(address, hostile, end, first), daemon=True).start()
    talk(address, port, end, second)
    print("hostile:", first, flush=True)
    print("all came:" if len(second) == 1 else "ended after", second, flush=True)


main(*sys.argv[1:])
