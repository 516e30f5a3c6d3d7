"""two_servers.py ADDRESS FIRST-PORT SECOND-PORT OWN-PORT SECONDS: connects to two servers; says one line to the first, of which nothing
need come, and talks to the second from its port OWN-PORT, as talk.py does."""

import importlib
import socket
import sys

address, first, second, own, seconds = sys.argv[1:]
one = socket.create_connection((address, int(first)))
one.sendall(b"hello\n")
sys.argv[1:] = ["ask", address, second, own, seconds]
importlib.import_module("talk")  # which does what its arguments say
