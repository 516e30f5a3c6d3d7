"""activated.py HOST PORT: makes a listener there, puts it at descriptor 3 and becomes this program anew, which finds it there, as systemd
says to it, and echoes what comes."""

import os
import socket
import sys
import threading

LISTENER = 3


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()


if os.environ.get("LISTEN_PID") == str(os.getpid()):
    with socket.socket(fileno=LISTENER) as listener:
        while True:
            threading.Thread(target=echo, args=listener.accept()[:1], daemon=True).start()
made = socket.create_server((sys.argv[1], int(sys.argv[2])))
os.dup2(made.fileno(), LISTENER) if made.fileno() != LISTENER else os.set_inheritable(LISTENER, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv])
