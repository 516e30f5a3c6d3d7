"""drops.py ADDRESS PORT USER: a server that accepts as root and becomes another user before it uses what it accepted. Answers as talk.py
does."""

import os
import socket
import sys

address, port, user = sys.argv[1:]
listener = socket.create_server((address, int(port)))
print("listening", flush=True)
sock = listener.accept()[0]
os.setresgid(int(user), int(user), int(user))
os.setresuid(int(user), int(user), int(user))
sys.argv[1:] = ["nothing"]
import talk  # noqa: E402

talk.answer(sock, 0)
