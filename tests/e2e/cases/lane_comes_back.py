"""Flows that lose their lane come back to TCP, and enter a lane again by themselves when what was lost is there again. The programs
notice nothing; the statistics of both ends tell of it."""

import re
import time

from lab import eventually, require

FLOWS = 3
SOON = 30
STARTS = 120  # where others keep the machine busy
DETECTION = 2


def steady(lab):
    """A server, and a client whose flows are in the lane."""
    server = lab.redis()
    client = lab.program("steady.py", lab.address, server.port, FLOWS)
    client.await_words("ready")
    return server, client


def await_count(ends, words, count, seconds=SOON):
    for end in ends:
        eventually(f"{end.name} says '{words}' {count} times: {end.log()[-2000:]}", lambda end=end: end.log().count(words) >= count,
                   seconds)


def finish(lab, server, client, turns, others=frozenset()):
    """The client was served all the time, and each flow came back `turns` times. `others`: why further flows of the server may be on TCP."""
    client.process.terminate()
    require(int(client.finish().split()[-1]) > 20, f"the client was not served: {client.end_of_output()}")
    for stats in client.stats(), lab.stop(server):
        told = {key: stats[key] for key in ("flows", "fallback", "returns", "reentries")}
        require(sum(stats["returns"].values()) >= turns * FLOWS and stats["reentries"] >= turns * FLOWS, f"{told}")
        require(stats["fallback"].keys() <= others, f"a flow settled: {told}")
        print(f"# {stats['program']}: the way back took, in us: {stats['return_us']}", flush=True)


def device_goes_and_comes(lab):
    """The device is taken away while flows use it, and put back. Nothing of the old one stays behind."""
    server, client = steady(lab)
    descriptors = []
    for turn in 1, 2, 3:
        with lab.removed_device(SOON):
            await_count((server, client), "is back on TCP", turn * FLOWS)
            time.sleep(0.5)  # on TCP meanwhile
        await_count((server, client), "is in its lane", (turn + 1) * FLOWS)
        descriptors.append((server.open_descriptors(), client.open_descriptors()))
    require(descriptors[0] == descriptors[2], f"descriptors after each turn: {descriptors}")
    finish(lab, server, client, 3)


def benchmark_through_removal(lab):
    """redis-benchmark, and a client that compares every byte, go on while the device is taken away and put back three times."""
    server, client = steady(lab)
    bench = lab.start(["redis-benchmark", "-h", lab.address, "-p", server.port, "-t", "set,get", "-c", 10, "-n", 2000, "-l", "-q"],
                      name="benchmark")
    eventually("the benchmark is in the lane", lambda: bench.log().count("is in its lane") >= 10, STARTS)
    for turn in 1, 2, 3:
        with lab.removed_device(SOON):
            await_count((server,), "is back on TCP", turn * FLOWS)
            time.sleep(0.5)
        await_count((client,), "is in its lane", (turn + 1) * FLOWS)
    require(bench.process.poll() is None, f"the benchmark ended: {bench.end_of_output()}")
    require(not re.search("[Ee]rror|reset|closed", bench.out() + bench.text("err")), f"the benchmark says: {bench.end_of_output()}")
    bench.kill()
    # Connections that were made while there was no device were tried again, or ended before.
    finish(lab, server, client, 3, {"short-lived"})


def device_goes_from_children(lab):
    """A child that a server made while its flows were in the lane, and that lives on, keeps no device from going."""
    server = lab.redis()
    client = lab.program("steady.py", lab.address, server.port, FLOWS)
    client.await_words("ready")
    lab.ask(server, "CONFIG", "SET", "rdb-key-save-delay", 10_000_000)
    lab.ask(server, "BGSAVE")
    with lab.removed_device(SOON):
        require("rdb_bgsave_in_progress:1" in lab.ask(server, "INFO", "persistence"), "the child is gone already")
        await_count((server, client), "is back on TCP", FLOWS)
    client.process.terminate()
    client.finish()
    server.kill()


CASES = {case.__name__: case for case in (device_goes_and_comes, benchmark_through_removal, device_goes_from_children)}
