"""near_victim.py ADDRESS PORT SECONDS: says line after line on one connection and wants each back; prints how many came."""

import os
import socket
import sys
import time


def main(address, port, seconds):
    sock = socket.create_connection((address, int(port)))
    end = time.monotonic() + float(seconds)
    count = 0
    with sock.makefile("rb") as lines:
        while time.monotonic() < end:
            line = b"%d %s\n" % (count, os.urandom(count % 100).hex().encode())
            try:
                sock.sendall(line)
                answer = lines.readline()
            except OSError:
                answer = b""
            if answer != line:
                return print("ended after", count, flush=True)
            count += 1
            time.sleep(0.002)
    print("all came:", count, flush=True)


main(*sys.argv[1:])
