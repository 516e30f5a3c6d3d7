"""unread.py server|client HOST PORT: the server sends at once, and the client reads nothing of it until SIGUSR1 comes and it has sent
as much itself. So most of what the server sent lies before the place at which the connection enters its lane."""

import signal
import socket
import sys

SIZE = 300_000
OF_SERVER, OF_CLIENT = bytes(i * 7 % 251 for i in range(SIZE)), bytes(i * 5 % 241 for i in range(SIZE))


def receive(sock):
    got = b""
    while len(got) < SIZE and (piece := sock.recv(SIZE)):
        got += piece
    return got


def main(mode, host, port):
    address = (host, int(port))
    if mode == "server":
        with socket.create_server(address) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * SIZE)
            print("listening", flush=True)
            sock = listener.accept()[0]
            sock.sendall(OF_SERVER)
            right = receive(sock) == OF_CLIENT
            sock.recv(1)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * SIZE)
        sock.connect(address)
        print("connected", flush=True)
        signal.sigwait([signal.SIGUSR1])
        sock.sendall(OF_CLIENT)
        right = receive(sock) == OF_SERVER
    print("all is right" if right else "wrong", flush=True)


main(*sys.argv[1:])
