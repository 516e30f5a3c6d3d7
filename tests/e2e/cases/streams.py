"""Streams whose every byte is known (tests/programs/streams.cpp), both ways at once, by each way in which programs wait for
sockets; and half closes at any moment."""

import time

from lab import PORTS, eventually, require

CONNECTIONS = 4
BYTES = 1 << 20
NEARLY_ALL = 0.9


class End:
    """One process of streams, which is slow until told to hurry."""

    def __init__(self, lab, mode, style, port, connections, *more, **options):
        self.go = lab.folder / f"go-{mode}-{style}-{port}-{len(lab.programs)}"
        self.connections = connections
        self.program = lab.start([lab.stage / "streams", mode, lab.address, port, style, connections, *more, self.go],
                                 name=f"{mode}-{style}", **options)

    def entered(self):
        """How many of its flows are in the lane."""
        self.program.said("")
        return self.program.log().count("is in its lane")

    def await_lane(self):
        eventually(f"{self.program.name}: {self.connections} flows in the lane", lambda: self.entered() == self.connections, 30)

    def hurry(self):
        self.go.touch()

    def finish(self):
        require("every byte right" in self.program.finish(), f"{self.program.name}: {self.program.end_of_output()}")
        return self.program.stats()


def server(lab, style, connections, **options):
    port = next(PORTS)
    end = End(lab, "server", style, port, connections, **options)
    end.program.await_words("listening")
    return end, port


def client(lab, style, port, seed, connections=CONNECTIONS, size=BYTES, **options):
    return End(lab, "client", style, port, connections, size, seed, **options)


def through_the_lane(lab, ends):
    """They meet while bytes go both ways; then nearly all bytes take the lane."""
    if lab.lane != "tcp":
        for end in ends:
            end.await_lane()
    for end in ends:
        end.hurry()
    for end in ends:
        stats = end.finish()
        lab.expect_lane(stats, bytes_each=end.connections * BYTES // 4)
        require(stats["flows"] == {"tcp": 0, "rdma": 0, "shm": 0} | {lab.carrier: end.connections}, f"{end.program.name}: {stats['flows']}")
        require(not stats["fallback"], f"{end.program.name}: {stats['fallback']}")
        for way in "bytes_in", "bytes_out":
            carried = stats[way][lab.carrier] / sum(stats[way].values())
            require(carried > NEARLY_ALL, f"{end.program.name}: the lane carried {carried:.0%} of {way}: {stats[way]}")


def style(name):
    """A server of that style, and clients of it, each against threads and epoll."""
    def case(lab):
        served, port = server(lab, name, 2 * CONNECTIONS)
        through_the_lane(lab, [served, client(lab, "threads", port, 1), client(lab, "epoll", port, 2)])
        ends = []
        for seed, other in enumerate(("threads", "epoll"), 3):
            served, port = server(lab, other, CONNECTIONS)
            ends += [served, client(lab, name, port, seed)]
        through_the_lane(lab, ends)
    return case


def half_close_meets_claim(lab):
    """One end shuts its sending half down at any moment of the cutover, while the other goes on."""
    connections, in_lane = 6, 0
    for turn, delay in enumerate((0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)):
        early, late = ("client", "server") if turn % 2 == 0 else ("server", "client")
        served, port = server(lab, "epoll" if turn % 3 else "threads", connections)
        ends = {"server": served, "client": client(lab, "threads" if turn % 3 else "epoll", port, turn, connections, 4000)}
        eventually("a link, or no chance of one", lambda: ends["client"].program.log() or lab.lane == "tcp", 30, pause=0.002)
        time.sleep(delay)
        ends[early].hurry()
        time.sleep(0.5)
        ends[late].hurry()
        for end in ends.values():
            stats = end.finish()
            require(sum(stats["flows"].values()) == connections, f"{end.program.name}: {stats['flows']}")
            in_lane += stats["flows"][lab.carrier]
    require(in_lane > 0, "no flow ever entered the lane")


CASES = {f"streams_{name}": style(name) for name in ("threads", "epoll", "edge", "oneshot", "poll", "select")}
CASES["half_close_meets_claim"] = half_close_meets_claim
