"""waiter.py HOST PORT WAY: waits for what never comes, and prints `ended after S s: HOW` when the connection ends instead. WAY is
recv, epoll, poll, select (an answer is waited for), send (a server that does not read is written to) or idle (which then asks)."""

import select
import sys
import time

import resp


def wait(sock, way):
    if way == "epoll":
        poller = select.epoll()
        poller.register(sock, select.EPOLLIN | select.EPOLLRDHUP)
        assert poller.poll(60), "epoll did not wake up"
    elif way == "poll":
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        assert poller.poll(60000), "poll did not wake up"
    elif way == "select":
        assert select.select([sock], [], [], 60)[0], "select did not wake up"


def main(host, port, way):
    client = resp.connect(host, port)
    print("ready", flush=True)
    try:
        if way == "send":
            while True:
                client.sock.sendall(b"x" * 65536)
        elif way == "idle":
            sys.stdin.read()
            how = repr(client.ask("PING"))
        else:
            client.send("BLPOP", "nothing", 0)
            wait(client.sock, way)
            got = client.sock.recv(100)
            how = f"read {got!r}"
    except (OSError, EOFError) as error:
        how = repr(error)
    print(f"ended at {time.time():.3f}: {how}", flush=True)


main(*sys.argv[1:])
