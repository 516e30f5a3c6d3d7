"""A value that is written in the lane and read, through the same port, by a program that runs on kernel TCP."""

import random
import time

from programs import Failed, Statistics

KEY = "examples:redis:read-back"
DIGITS = 64 * 1024
PINGS, PAUSE_SECONDS = 20, 0.1  # in which the connection enters its lane


def commands(value):
    """For redis-cli, which sends one after the other on one connection."""
    for _ in range(PINGS):
        yield "PING"
        time.sleep(PAUSE_SECONDS)
    yield f"SET {KEY} {value}"


def read_back(programs, address, port, lane):
    """What was done, as a dictionary. Raises Failed unless the value went by the lane and came back unharmed."""
    value = f"{random.getrandbits(4 * DIGITS):0{DIGITS}x}"
    redis_cli = ["redis-cli", "-h", address, "-p", port]
    path = programs.folder / "statistics.writer"
    answers = programs.client(redis_cli, path, commands(value)).split()
    if answers != ["PONG"] * PINGS + ["OK"]:
        raise Failed(f"redis-cli could not write a value in the lane: {answers[-5:]}")
    # SET came last, so where its size and more went by the lane, and nothing made the flow go back, all of it did.
    statistics = Statistics.read(path)
    if statistics.bytes_out[lane] < DIGITS or statistics.fallback:
        raise Failed(f"the value that was to be written in the lane went by TCP: {statistics}")
    got = programs.client([*redis_cli, "GET", KEY]).rstrip("\n")
    if got != value:
        raise Failed(f"a plain redis-cli read back another value than was written in the lane: {len(got)} bytes, "
                     f"begins {got[:40]!r} instead of {value[:40]!r}")
    return {"bytes": DIGITS, "writer": vars(statistics)}
