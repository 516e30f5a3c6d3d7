"""quiet.py server|client HOST PORT CONNECTIONS: connections on which a few bytes go to and fro until they are in the lane, and then
nothing, until the program is ended."""

import socket
import sys
import time

TALK_SECONDS = 6


def main(mode, host, port, connections):
    address, count = (host, int(port)), int(connections)
    if mode == "server":
        listener = socket.create_server(address)
        print("listening", flush=True)
        ends = [listener.accept()[0] for _ in range(count)]
    else:
        ends = [socket.create_connection(address) for _ in range(count)]
    until = time.monotonic() + TALK_SECONDS
    over = False
    while not over:
        over = time.monotonic() > until
        for end in ends:
            if mode == "client":
                end.sendall(b"o" if over else b"x")
                end.recv(1)
            else:
                told = end.recv(1)
                end.sendall(told)
                over = over or told == b"o"
    print("quiet", flush=True)
    time.sleep(3600)


main(*sys.argv[1:])
