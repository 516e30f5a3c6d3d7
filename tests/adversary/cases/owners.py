"""Whose the socket at the other end is: how that is found out, and what happens where it cannot be."""

from lab import PORTS, require
from principals import ALICE, as_user

NO_PROC = ["unshare", "--mount", "--", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


def sandbox(lab):
    return ["/usr/bin/python3", lab.stage / "programs/sandbox.py"]


def meet(lab, server=(), client=(), listen=None, address=None, crowd=1, **more):
    """A server and its clients; the statistics of both."""
    port = next(PORTS)
    serve = lab.program("talk.py", "serve", listen or lab.address, port, wrap=server, **more)
    serve.await_words("listening")
    words = ["crowd", address or lab.address, port, crowd, 8] if crowd > 1 else ["ask", address or lab.address, port, 0, 2]
    ask = lab.program("talk.py", *words, wrap=client, **more)
    out = ask.finish(60)
    require(out.count("all came") == crowd and "wrong" not in out + serve.out(), f"{out} {ask.end_of_output()} {serve.out()}")
    return ask.stats()


def shares(stats, count=1):
    require(stats["flows"]["shm"] == count, f"{stats['flows']} {stats['fallback']}")


def stays(stats, *reasons):
    require(stats["flows"]["shm"] == 0 and stats["flows"]["tcp"] == 1, f"{stats['flows']} {stats['fallback']}")
    require(not reasons or stats["fallback"].keys() & set(reasons), f"{stats['fallback']}")


def by_table(lab):
    """Where netlink is forbidden the kernel's table tells."""
    shares(meet(lab, server=[*as_user(ALICE), *sandbox(lab)], client=[*as_user(ALICE), *sandbox(lab)]))


def crowd_by_table(lab):
    shares(meet(lab, server=sandbox(lab), client=sandbox(lab), crowd=150), 150)


def crowd(lab):
    shares(meet(lab, crowd=150), 150)


def nothing_tells(lab):
    """Neither at hand: no shared memory, and the reason says so."""
    blind = [*NO_PROC, *sandbox(lab)]
    stays(meet(lab, server=blind, client=blind), "owner-unknown")


def server_is_not_told(lab):
    stays(meet(lab, server=[*NO_PROC, *sandbox(lab)]))


def mapped(lab):
    """The server's socket is of IPv6, its client's of IPv4."""
    for wrap in ((), sandbox(lab)):
        shares(meet(lab, server=wrap, client=wrap, listen="::"))


def accepted_for_another(lab):
    """A socket that root accepted, and that is another user's now, stays on TCP."""
    port = next(PORTS)
    serve = lab.program("drops.py", lab.address, port, ALICE)
    serve.await_words("listening")
    ask = lab.program("talk.py", "ask", lab.address, port, 0, 3)
    require("all came" in ask.finish(60) and "wrong" not in serve.out(), f"{ask.end_of_output()} {serve.out()}")
    stays(ask.stats())


def own_processes(lab):
    """Ends that number processes each in a way of its own are the same ends."""
    port = next(PORTS)
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
    serve = lab.program("talk.py", "serve", lab.address, port, wrap=alone)
    serve.await_words("listening")
    ask = lab.program("talk.py", "ask", lab.address, port, 0, 2, wrap=alone)
    require("all came" in ask.finish(60) and "wrong" not in serve.out(), f"{ask.end_of_output()} {serve.out()}")
    require("is in its lane" in ask.log(), "they do not share memory")


CASES = {case.__name__: case for case in (by_table, crowd, crowd_by_table, nothing_tells, server_is_not_told, mapped,
                                          accepted_for_another, own_processes)}
