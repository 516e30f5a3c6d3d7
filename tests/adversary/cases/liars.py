"""An end of the connection that is of the same user, and lies: it fills nobody's memory, changes no byte that was said to the
connection, and gets no link by it."""

import time

from lab import PORTS, require
from principals import ALICE

MEGABYTE = 1 << 20
MOST = 48  # megabytes: what is taken out of TCP is 16 at most, and a buffer that grows is twice what it holds


def highest_resident(program, seconds):
    highest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and program.process.poll() is None:
        highest = max(highest, program.resident_kib())
        time.sleep(0.02)
    return highest


def stays_small(victim, peer):
    """While it looks away, and then reads all the same."""
    before = victim.resident_kib()
    grown = (highest_resident(victim, 7) - before) / 1024
    peer.await_words("TCP took", 20)
    require("linked" in peer.out(), f"the peer: {peer.out()} {peer.end_of_output()}")
    require(grown < MOST, f"the victim has taken {grown:.0f} MiB; the peer: {peer.out()}")
    require("read" in victim.finish(30), f"the victim: {victim.end_of_output()}")


def huge(misdeed):
    """A peer names bytes that come before the lane, and drops the link: what is taken from TCP for it is what two kernels hold."""
    def case(lab):
        port = next(PORTS)
        peer = lab.program("fills.py", lab.address, port, misdeed, preload=False, user=ALICE)
        peer.await_words("listening")
        victim = lab.program("looks_away.py", lab.address, port, 8, user=ALICE)
        victim.await_words("looks away")
        stays_small(victim, peer)
    return case


def huge_of_client(lab):
    """The same, of an end that accepted."""
    port = next(PORTS)
    victim = lab.program("looks_away.py", lab.address, port, 8, "serve", user=ALICE)
    victim.await_words("listening")
    peer = lab.program("fills.py", lab.address, port, "huge-n-of-client", preload=False, user=ALICE)
    victim.await_words("looks away")
    stays_small(victim, peer)


def lying_hello(misdeed):
    def case(lab):
        port = next(PORTS)
        peer = lab.program("fills.py", lab.address, port, misdeed, preload=False, user=ALICE)
        peer.await_words("listening")
        victim = lab.program("looks_away.py", lab.address, port, 1, user=ALICE)
        peer.await_words("done", 20)
        require("refused" in peer.out(), f"the peer: {peer.out()}")
        victim.finish(30)
        stats = victim.stats()
        require(stats["links"] == 0 and stats["flows"]["tcp"] == 1, f"the victim: {stats}")
    return case


def lying_answer(lab):
    port = next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port, user=ALICE)
    serve.await_words("listening")
    peer = lab.program("answers.py", lab.address, port, "lying", preload=False, user=ALICE)
    out = peer.finish(30)
    require("dialled" in out and "refused" in out, f"the peer: {out} {peer.end_of_output()}")


def as_it_was_written(peer):
    require("as it was written" in peer.finish(30) and "in the ring" not in peer.out(), f"the peer: {peer.out()} {peer.end_of_output()}")


def rewritten_server(lab):
    """Nothing is in the ring of an end that has shown no token; what waited for that goes by TCP."""
    port = next(PORTS)
    peer = lab.program("rewrites.py", "server", lab.address, port, preload=False, user=ALICE)
    peer.await_words("listening")
    lab.program("talk.py", "ask", lab.address, port, 0, 10, user=ALICE)
    as_it_was_written(peer)


def rewritten_client(lab):
    port = next(PORTS)
    serve = lab.program("talk.py", "serve", lab.address, port, user=ALICE)
    serve.await_words("listening")
    peer = lab.program("rewrites.py", "client", lab.address, port, preload=False, user=ALICE)
    as_it_was_written(peer)


# What each costs who does it.
WITNESSES = {**dict.fromkeys(("early", "wrong", "swapped", "none", "end-for-it", "twice", "wrong-again"), "lost"),
             **dict.fromkeys(("right", "late"), "kept")}


def serve_slowly(lab, port):
    """It has nothing to say yet when it is shown a token: it would not wait for that for long."""
    serve = lab.program("talk.py", "serve", lab.address, port, 0, 0.3, user=ALICE)
    serve.await_words("listening")
    return serve


def witness(misdeed, fate):
    """A client that has not shown that it has read its server's token is given nothing in the ring, and heard there in nothing."""
    def case(lab):
        port = next(PORTS)
        serve = serve_slowly(lab, port)
        peer = lab.program("unwitnessed.py", lab.address, port, misdeed, preload=False, user=ALICE)
        as_it_was_written(peer)
        require(fate in peer.out(), f"the peer: {peer.out()}, not {fate}")
        require("wrong" not in serve.out(), f"the server: {serve.out()}")
        entered = misdeed in ("right", "twice", "wrong-again")
        require(("is in its lane" in serve.log()) == entered, f"the server's log: {serve.log()}")
    return case


def supplied(whom, which):
    """Somebody who has a link to one end, and supplies what the other end's program writes, is the peer only if it is told what that
    program reads, too."""
    def case(lab):
        port, client_port, feed_port = next(PORTS), next(PORTS), next(PORTS)
        ends = (lab.address, port, client_port)
        tells = "bytes" if which == "seen" else "number"
        if whom == "to-server":
            victim = serve_slowly(lab, port)
        fed = lab.program("fed.py", "serve" if whom == "to-client" else "connect", *ends, feed_port, tells, preload=False, user=ALICE)
        fed.await_words("listening")
        peer = lab.program("supplies.py", whom, which, *ends, feed_port, preload=False, user=ALICE)
        peer.await_words("supplying")
        if whom == "to-client":
            victim = lab.program("talk.py", "ask", lab.address, port, client_port, 3, user=ALICE)
        out = peer.finish(30)
        require("shown" in out and "done" in out, f"the peer: {out} {peer.end_of_output()}; the victim: {victim.out()}")
        is_peer = which == "seen"
        before, _, behind = out.partition("witnessed")
        require("read" not in before and ("read" in behind) == is_peer, f"the peer: {out}")
        require(("is in its lane" in victim.log()) == is_peer, f"the victim: {victim.log()}")
        if whom == "to-client" and not is_peer:
            require("is at the other end of another link" in victim.log() and "witnessed" not in out, f"{out}; the victim: {victim.log()}")
    return case


CASES = {
    **{f"witness_{misdeed.replace('-', '_')}": witness(misdeed, fate) for misdeed, fate in WITNESSES.items()},
    **{f"supplied_{which}_{whom.replace('-', '_')}": supplied(whom, which)
       for whom, whiches in {"to-client": ("token", "no", "seen"), "to-server": ("token", "seen")}.items() for which in whiches},
    "rewritten_by_server": rewritten_server,
    "rewritten_by_client": rewritten_client,
    "huge_offset": huge("huge-n"),
    "huge_offset_of_client": huge_of_client,
    "large_offset": huge("near-n"),
    "lying_verdict": lying_hello("liar"),
    "lying_receives": lying_hello("many-receives"),
    "lying_answer": lying_answer,
}
