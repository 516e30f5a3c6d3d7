"""Flows that lose their lane come back to TCP, and enter a lane again by themselves when what was lost is there again. The programs
notice nothing; the statistics of both ends tell of it."""

import pathlib
import subprocess
import time

from cases.streams import PATIENT
from lab import eventually, require

FLOWS = 3
SOON = 30
DETECTION = 2


def steady(lab):
    """A server, and a client whose flows are in the lane."""
    server = lab.redis(options=PATIENT)
    client = lab.program("steady.py", lab.address, server.port, FLOWS, options=PATIENT)
    client.await_words("ready")
    return server, client


def await_count(ends, words, count, seconds=SOON):
    for end in ends:
        eventually(f"{end.name} says '{words}' {count} times: {end.log()[-2000:]}", lambda end=end: end.log().count(words) >= count,
                   seconds)


def finish(lab, server, client, turns):
    """The client was served all the time, and each flow came back `turns` times."""
    client.process.terminate()
    require(int(client.finish().split()[-1]) > 20, f"the client was not served: {client.end_of_output()}")
    for stats in client.stats(), lab.stop(server):
        told = {key: stats[key] for key in ("flows", "fallback", "returns", "reentries")}
        require(sum(stats["returns"].values()) >= turns * FLOWS and stats["reentries"] >= turns * FLOWS, f"{told}")
        require(not stats["fallback"], f"a flow settled: {told}")


def card():
    return pathlib.Path("/sys/class/infiniband/rxe0/parent").read_text().strip()


def device_goes_and_comes(lab):
    """The device is taken away while flows use it, and put back."""
    server, client = steady(lab)
    name = card()
    for turn in 1, 2:
        subprocess.run(["rdma", "link", "delete", "rxe0"], check=True, timeout=SOON)
        try:
            await_count((server, client), "is back on TCP", turn * FLOWS)
            time.sleep(0.5)  # on TCP meanwhile
        finally:
            subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", name], check=True)
            lab.first_packets = 0
        await_count((server, client), "is in its lane", (turn + 1) * FLOWS)
    finish(lab, server, client, 2)


CASES = {case.__name__: case for case in (device_goes_and_comes,)}
