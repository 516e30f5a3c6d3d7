"""answers.py ADDRESS PORT lying: a client of its own connection, of its own user, whose point answers the dial of its server, which uses
librsock, with more receives than a queue has. Prints "dialled", and "linked" if its server claims the connection, or "refused"."""

import socket
import sys
import time

from near_peer import CLAIM, DEPTH
from shared import Memory, Point

address, port, _ = sys.argv[1:]
sock = socket.socket()
sock.bind((address, 0))
point = Point(sock.getsockname(), (address, int(port)))
sock.connect((address, int(port)))
sock.sendall(b"ask 0 \n")
link = point.answer(5, receives=DEPTH + 1)
print("dialled" if link else "not dialled", flush=True)
print("linked" if link and Memory(link.own_fd).wait(CLAIM, 2) else "refused", flush=True)
time.sleep(1)
