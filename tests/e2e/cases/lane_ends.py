"""How connections end: by close, shutdown and exit, and by the death of either process."""

import re
import signal
import subprocess
import time

from lab import PORTS, eventually, require

MIB = 1 << 20
ENDING_SIGNALS = {"abort_itself": signal.SIGABRT, "terminate": signal.SIGTERM, "fault": signal.SIGSEGV}
WITHIN = 2  # seconds in which an end must be noticed


def killed_server(way):
    """The server dies; a client that waits in `way` is told so at once."""
    def case(lab):
        server = lab.redis()
        # One byte at a time short of a command: Redis reads all of it and never answers.
        client = lab.program("waiter.py", lab.address, server.port, way, stdin=subprocess.PIPE if way == "idle" else None)
        client.await_words("ready")
        time.sleep(0.3)  # most likely it waits by then; it must not matter
        server.process.send_signal(signal.SIGSTOP) if way == "send" else None
        time.sleep(0.5 if way == "send" else 0)
        server.kill()
        killed = time.time()
        if way == "idle":
            client.process.stdin.close()
        out = client.finish(30)
        ended, how = re.search(r"ended at ([\d.]+): (.*)", out).groups()
        require("ECONNRESET" in how or "EPIPE" in how or "reset" in how or "Broken pipe" in how or "read b''" in how or
                "EOFError" in how, f"the client saw: {how}")
        require(float(ended) - killed < WITHIN, f"noticed after {float(ended) - killed:.1f} s")
        lab.expect_lane(client.stats(), bytes_each=7)
    return case


def killed_client(lab):
    """Busy clients die; the server goes on and forgets them."""
    server = lab.redis()
    victims = [lab.program("steady.py", lab.address, server.port, 5) for _ in range(2)]
    witness = lab.program("steady.py", lab.address, server.port, 5)
    for client in (*victims, witness):
        client.await_words("ready")
    before = lab.ask(server, "CLIENT", "LIST").count(f"laddr={lab.address}:")
    require(before == 15, f"{before} clients, not 15")
    for victim in victims:
        victim.kill()
    killed = time.monotonic()
    eventually("the server forgets dead clients",
               lambda: lab.ask(server, "CLIENT", "LIST").count(f"laddr={lab.address}:") == 5, 10)
    took = time.monotonic() - killed
    require(took < WITHIN + 1, f"the server noticed after {took:.1f} s")
    witness.process.terminate()
    require(int(witness.finish().split()[-1]) > 50, "the other client was not served")
    lab.expect_lane(lab.stop(server), witness.stats(), bytes_each=1000)


def stopped_client(lab):
    """A client stands still for longer than the device retries, and goes on as if nothing had been."""
    server = lab.redis()
    client = lab.program("steady.py", lab.address, server.port, 5)
    other = lab.program("steady.py", lab.address, server.port, 2)
    for each in client, other:
        each.await_words("ready")
    for _ in range(2):
        client.process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        client.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
    for each in client, other:
        each.process.terminate()
        require(int(each.finish().split()[-1]) > 50, "a client was not served")
    lab.expect_lane(lab.stop(server), client.stats(), other.stats(), bytes_each=1000)


def closing(how, size, least=1):
    """ends.py's server and client, both preloaded; they check the bytes."""
    def case(lab):
        port = next(PORTS)
        server = lab.program("ends.py", "server", how, lab.address, port, size)
        server.await_words("listening")
        client = lab.program("ends.py", "client", how, lab.address, port, size)
        client.finish(90, -ENDING_SIGNALS.get(how, 0))
        server.finish(60)
        if how != "abort":
            require("all is there" in server.out() + client.out(), f"{server.end_of_output()} {client.end_of_output()}")
        lab.expect_lane(server.stats(), client.stats(), bytes_each=least)
    return case


def short_connections(lab):
    """1000 connections, one after the other: nothing of them stays in the server."""
    server = lab.redis()

    def turn(count):
        client = lab.program("short.py", lab.address, server.port, count)
        client.finish(300)
        eventually("the server forgets its clients", lambda: f"laddr={lab.address}:" not in lab.ask(server, "CLIENT", "LIST"))
        return client.stats()

    turn(200)
    eventually("the descriptors settle", lambda: server.open_descriptors() < 60, 10)
    descriptors, memory = server.open_descriptors(), server.resident_kib()
    stats = turn(1000)
    require(stats["links"] <= 1, f"{stats['links']} links")
    grown = eventually("the server closes what it opened", lambda: server.open_descriptors() <= descriptors + 3 or None, 10)
    require(grown, "descriptors leak")
    more = server.resident_kib() - memory
    require(more < 6000, f"the server grew by {more} KiB")
    lab.expect_lane(lab.stop(server), stats)


def one_request_each(lab):
    """Connections that are over after one request cost no rendezvous, and what is said on one that goes on takes the lane."""
    options = "young_ms = 1000\n"
    server = lab.redis(options=options)
    visits = lab.program("visits.py", lab.address, server.port, 300, 1, 0, options=options)
    visits.finish()
    stats = visits.stats()
    require(stats["flows"]["tcp"] == 300 and stats["fallback"] == {"short-lived": 300}, f"{stats['flows']}, {stats['fallback']}")
    busy = lab.program("short.py", lab.address, server.port, 0, options=options)
    busy.finish()
    ends = lab.stop(server)
    require(ends["dials"] <= 8, f"{ends['dials']} dials")  # one, and what it takes until a first point is open
    lab.expect_lane(ends, busy.stats())


def old_enough(lab):
    """A connection that is there still has its lane, however little it does."""
    server = lab.redis()
    visits = lab.program("visits.py", lab.address, server.port, 1, 8, 0.5)
    visits.finish()
    lab.expect_lane(lab.stop(server), visits.stats())


CASES = {
    "one_request_each": one_request_each,
    "old_enough": old_enough,
    **{f"killed_server_{way}": killed_server(way) for way in ("recv", "epoll", "poll", "select", "send", "idle")},
    "killed_client": killed_client,
    "stopped_client": stopped_client,
    "close_after_large_write": closing("close", 8 * MIB),
    "close_unread": closing("close", 100),
    "half_close": closing("half", 4 * MIB),
    **{f"exit_in_flight_{how}": closing(how, MIB) for how in ("return", "sys_exit", "os_exit", *ENDING_SIGNALS)},
    "reset_by_linger_0": closing("abort", 100),
    "short_connections": short_connections,
}
