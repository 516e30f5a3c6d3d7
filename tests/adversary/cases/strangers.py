"""A stranger is not an end of the connection: it gets no link on which the connection is offered, and nothing of it. The two ends
work, on TCP or in a lane of their own."""

import re
import subprocess

from lab import PORTS, require
from principals import ALICE, BOB, MALLORY, as_namespace_root, as_user

ROOT = []  # what runs it: nothing


def bytes_read(stranger):
    found = re.findall(r"read (\d+) bytes", stranger.out())
    return int(found[-1]) if found else 0


def unharmed(client, server, stranger):
    """Nothing was read, nothing was changed, and everybody works."""
    out = client.finish(60)
    read = bytes_read(stranger)
    require("all came" in out, f"the client: {out} {client.end_of_output()}; the stranger: {stranger.out()}")
    require("wrong" not in server.out(), f"the server: {server.out()}")
    require("offered" not in stranger.out() and read == 0, f"the stranger: {stranger.out()}")
    require(int(re.search(r"all came: (\d+)", out)[1]) > 50, f"the client was held up: {out}")


def between(lab, stranger, victims, client_preloaded=True, server_preloaded=True, program="relay.py", words=(), first=True):
    """A server and its client, both run by `victims`, and a stranger who knows their ports."""
    port, client_port = next(PORTS), next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port, wrap=victims, preload=server_preloaded)
    serve.await_words("listening")
    start = [lab.stage / "programs" / program, *words, lab.address, port, client_port]
    mallory = lab.start(["/usr/bin/python3", *start], wrap=stranger, preload=False, name=program.removesuffix(".py"))
    if first:
        mallory.await_words("squatting")
    client = lab.program("talk.py", "ask", lab.address, port, client_port, 4, wrap=victims, preload=client_preloaded)
    unharmed(client, serve, mallory)
    return mallory, client, serve


def relay(victims, stranger, which="own-keys"):
    def case(lab):
        mallory, _, _ = between(lab, stranger, victims, words=[which])
        require("met the client" not in mallory.out(), f"the stranger: {mallory.out()}")
    return case


def relay_of_same_user(which, user, words):
    """Whose the socket is tells nothing here: the relay may be either end's peer. What tells is that the tokens of its two links differ;
    or, if it hands the ends' keys on to have one secret on both links, that to each end the other one has not the relay's number."""
    def case(lab):
        mallory, client, serve = between(lab, user, user, words=[which])
        require("met the client" in mallory.out(), f"the relay: {mallory.out()} {mallory.end_of_output()}")
        require(any(words in each.log() for each in (client, serve)), f"nobody says: {words}")
    return case


def squatted_point(victims, stranger):
    """The client does not use librsock: the name of its point is free for everybody."""
    def case(lab):
        between(lab, stranger, victims, client_preloaded=False, program="knocks.py", words=["client"])
    return case


def dialled_by_stranger(victims, stranger):
    """The server does not use librsock: nobody else comes to its client's point."""
    def case(lab):
        between(lab, stranger, victims, server_preloaded=False, program="knocks.py", words=["server"], first=False)
    return case


def claimed_from_us(lab):
    """A server of root has an honest link to a client of one user. A connection from the same address that is another's is not
    offered there."""
    port, other = next(PORTS), next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port)
    serve.await_words("listening")
    mallory = lab.program("honest_once.py", "client", lab.address, port, preload=False, user=MALLORY)
    mallory.await_words("linked", 10)
    client = lab.program("talk.py", "ask", lab.address, port, other, 3, user=ALICE, preload=False)
    unharmed(client, serve, mallory)


def claimed_by_stranger(lab):
    """A client of root has an honest link to a server of one user. A connection to the same address that is another's cannot be
    claimed there."""
    port, other = next(PORTS), next(PORTS)
    client_port = next(PORTS)
    require(client_port == other + 1, "the ports are in a row")
    serve = lab.program("talk.py", "serve", lab.address, other, user=ALICE, preload=False)
    serve.await_words("listening")
    mallory = lab.program("honest_once.py", "server", lab.address, port, other, preload=False, user=MALLORY, stdin=subprocess.PIPE)
    mallory.await_words("listening")
    client = lab.program("two_servers.py", lab.address, port, other, client_port, 4)
    client.await_words("connected")
    mallory.await_words("linked", 10)
    mallory.process.stdin.write(b"\n")
    mallory.process.stdin.flush()
    unharmed(client, serve, mallory)
    mallory.await_words("declined", 5)


def silent_visitors(lab):
    """Eight who come to the point and say nothing do not keep the peer out."""
    port, client_port = next(PORTS), next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port, 1)  # it is used, and so dials, when they are there
    serve.await_words("listening")
    mallory = lab.program("knocks.py", "silent", lab.address, port, client_port, preload=False, user=MALLORY)
    client = lab.program("talk.py", "ask", lab.address, port, client_port, 4)
    mallory.await_words("silent", 10)
    unharmed(client, serve, mallory)
    stats = client.stats()
    require(stats["flows"]["shm"] == 1, f"the client: {stats['flows']} {stats['fallback']}")


def users_apart(lab):
    """A plain server of another user dials its client's rendezvous point by hand: memory is not shared between the two."""
    port = next(PORTS)
    peer = lab.program("near_peer.py", lab.address, port, "wrong-stamp", preload=False, user=BOB)
    peer.await_words("listening")
    victim = lab.program("near_victim.py", lab.address, port, 1.5, user=ALICE)
    require("all came" in victim.finish(60), f"the victim: {victim.end_of_output()}")
    peer.await_words("refused", 10)
    stats = victim.stats()
    require(stats["flows"]["tcp"] == 1 and stats["links"] == 0, f"the victim: {stats}")


def honest(server, client):
    """Whom the strangers stand between, without them: they share memory."""
    def case(lab):
        port, client_port = next(PORTS), next(PORTS)
        serve = lab.program("talk.py", "serve", lab.address, port, wrap=server)
        serve.await_words("listening")
        ask = lab.program("talk.py", "ask", lab.address, port, client_port, 1.5, wrap=client)
        require("all came" in ask.finish(60), f"the client: {ask.end_of_output()}")
        stats = ask.stats()
        require(stats["flows"]["shm"] == 1, f"the client: {stats['flows']} {stats['fallback']}")
    return case


def same_number(lab):
    """To root of a user namespace all users of whom it does not know have one number. The owner of a connection has it, and so has the
    stranger who takes the name of its point."""
    port, client_port = next(PORTS), next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port, wrap=as_namespace_root(ALICE))
    serve.await_words("listening")
    mallory = lab.program("knocks.py", "client", lab.address, port, client_port, preload=False, user=MALLORY)
    mallory.await_words("squatting")
    client = lab.program("talk.py", "ask", lab.address, port, client_port, 3, preload=False, user=BOB)
    unharmed(client, serve, mallory)


VICTIMS = {"root": ROOT, "namespace_root": as_namespace_root(ALICE)}
STRANGERS = {"user": as_user(MALLORY), "namespace": as_namespace_root(MALLORY)}

BETRAYED = {"own-keys": "is at the other end of another link", **dict.fromkeys(("their-keys", "their-memory"), "it does not know the secret")}

CASES = {
    "honest_root": honest(ROOT, ROOT),
    "honest_user": honest(as_user(ALICE), as_user(ALICE)),
    "honest_root_and_user": honest(ROOT, as_user(ALICE)),
    "honest_user_and_root": honest(as_user(ALICE), ROOT),
    "honest_namespace_root": honest(as_namespace_root(ALICE), as_namespace_root(ALICE)),
    **{f"relay_{stranger}_between_{victims}": relay(VICTIMS[victims], STRANGERS[stranger])
       for victims in VICTIMS for stranger in STRANGERS},
    **{f"relay_of_{name}_with_{which.replace('-', '_')}": relay_of_same_user(which, user, words)
       for name, user in {"root": ROOT, "same_user": as_user(ALICE)}.items() for which, words in BETRAYED.items()},
    **{f"squatted_by_{stranger}_from_{victims}": squatted_point(VICTIMS[victims], STRANGERS[stranger])
       for victims in VICTIMS for stranger in STRANGERS},
    **{f"dialled_by_{stranger}_at_{victims}": dialled_by_stranger(VICTIMS[victims], STRANGERS[stranger])
       for victims in VICTIMS for stranger in STRANGERS},
    **{case.__name__: case for case in (claimed_from_us, claimed_by_stranger, silent_visitors, same_number, users_apart)},
}
