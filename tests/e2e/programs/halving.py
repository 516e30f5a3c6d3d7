"""halving.py HOST PORT: a server for one connection. Answers a first line, ends its sending half once in the lane, waits, and
then prints how many bytes it read before the stream ended, by whatever."""

import socket
import sys
import time

import resp


def main(host, port):
    listener = socket.create_server((host, int(port)))
    print("listening", flush=True)
    sock, _ = listener.accept()
    sock.recv(100)
    sock.sendall(b"+PONG\r\n")
    deadline = time.monotonic() + resp.patience()
    while not resp.in_lane(sock):
        assert time.monotonic() < deadline, "the connection did not get into its lane"
        time.sleep(0.02)
    sock.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    read = 0
    try:
        while data := sock.recv(1000):
            read += len(data)
    except ConnectionError:
        pass
    print(f"{read} bytes were read", flush=True)


main(*sys.argv[1:])
