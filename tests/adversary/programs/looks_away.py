"""looks_away.py ADDRESS PORT SECONDS [serve]: says a line, hears it, and reads no more for that long; then reads what there is, for a second.
With "serve" it accepts the connection, and hears a line and says it. Prints "listening", "looks away", and "read N bytes"."""

import socket
import sys
import time

address, port, seconds, *serves = sys.argv[1:]
if serves:
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    sock = listener.accept()[0]
else:
    sock = socket.create_connection((address, int(port)))
    sock.sendall(b"hello\n")
line = b""
while not line.endswith(b"\n"):
    line += sock.recv(1)
if serves:
    sock.sendall(line)
print("looks away", flush=True)
time.sleep(float(seconds))
total = 0
sock.settimeout(1)
try:
    while got := sock.recv(1 << 20):
        total += len(got)
except OSError:
    pass
print("read", total, "bytes", flush=True)
