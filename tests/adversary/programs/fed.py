"""fed.py serve|connect ADDRESS PORT CLIENT-PORT FEED-PORT bytes|number: an honest end of a connection between CLIENT-PORT and PORT, which
writes there whatever comes from a connection to FEED-PORT, as a server of messages does. That connection hears the bytes that it reads, or
only their number: as many zeros. Never preloaded."""

import contextlib
import socket
import sys
import threading

which, address, port, client_port, feed_port, tells = sys.argv[1:]


def pump(source, sink, made=bytes):
    with contextlib.suppress(OSError):
        while got := source.recv(4096):
            sink.sendall(made(got))
    print("ended", flush=True)


TELLS = {"bytes": bytes, "number": lambda got: bytes(len(got))}
feeds = socket.create_server((address, int(feed_port)))
if which == "serve":
    listener = socket.create_server((address, int(port)))
print("listening", flush=True)
feed = feeds.accept()[0]
if which == "serve":
    sock = listener.accept()[0]
else:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, int(client_port)))
    sock.connect((address, int(port)))
threading.Thread(target=pump, args=(sock, feed, TELLS[tells]), daemon=True).start()
pump(feed, sock)
