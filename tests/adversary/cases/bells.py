"""Nobody who is given a bell to ring, or gives something, holds a process up: other connections are served, fork returns, and a
signal ends it, all in about the time that it takes where nothing is wrong."""

import pathlib
import re
import signal
import subprocess
import time

from lab import PORTS, Failed, eventually, require
from principals import ALICE, MALLORY

MOST_SECONDS = 8.0  # on a busy machine; what is lingered for is 20 s
DRAIN = "drain_ms = 1000\n"
# A rendezvous point that is open all the time.
OPEN_LONG = DRAIN + "rendezvous_ms = 20000\n"


def unharmed(victim, least):
    """It says that nothing took long, and ends by SIGTERM."""
    victim.await_words("worst exchange", 90)
    said = victim.out()
    took = {what: float(seconds) for what, seconds in re.findall(r"worst (\w+) ([\d.]+) s", said)}
    require(max(took.values()) < MOST_SECONDS, f"{victim.name} was held up: {said}")
    count = int(re.search(r"(\d+) exchanges", said)[1])
    require(count >= least, f"{victim.name} was served {count} times")
    begun = time.monotonic()
    victim.process.send_signal(signal.SIGTERM)
    try:
        status = victim.process.wait(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"SIGTERM does not end {victim.name}, {victim.where()}") from None
    require(status == -signal.SIGTERM, f"{victim.name} ended with {status} after {time.monotonic() - begun:.1f} s")


def by_peer(misdeed, user=None):
    """A peer of the same user does it; the victim's other connection keeps its lane."""
    def case(lab):
        server, port = lab.redis(user=user), next(PORTS)
        peer = lab.program("freezing.py", lab.address, port, misdeed, preload=False, user=user)
        peer.await_words("listening")
        victim = lab.program("unfrozen.py", lab.address, port, server.port, 4, options=DRAIN, user=user)
        peer.await_words("done", 60)
        unharmed(victim, 100)
        require("not given" not in peer.out() and peer.process.poll() is None, f"the peer: {peer.end_of_output()}")
        lab.expect_lane(victim.stats(), bytes_each=500)
    return case


def by_stranger(lab):
    """Another user leaves it where it may not even be heard: at a rendezvous point and at the control socket."""
    server, port = lab.redis(user=ALICE), next(PORTS)
    peer = lab.program("near_peer.py", lab.address, port, "nothing", preload=False, user=ALICE)
    peer.await_words("listening")
    stranger = lab.program("knocking_lingering.py", preload=False, user=MALLORY)
    stranger.await_words("ready")
    victim = lab.program("unfrozen.py", lab.address, port, server.port, 8, options=OPEN_LONG, user=ALICE)
    eventually("the victim's point is open", lambda: f"-{lab.address}:{port}" in pathlib.Path("/proc/net/unix").read_text(), 60)
    victim.process.send_signal(signal.SIGSTOP)  # what is given is nobody else's when it wakes
    stranger.process.send_signal(signal.SIGUSR1)
    stranger.await_words("knocked at", 60)
    victim.process.send_signal(signal.SIGCONT)
    require(int(re.search(r"knocked at (\d+)", stranger.out())[1]) >= 2, f"the stranger: {stranger.end_of_output()}")
    unharmed(victim, 100)


def by_child(lab):
    """A child that gave up its privileges, with what it inherited."""
    server = lab.redis()
    victim = lab.program("forsaken.py", lab.address, server.port, MALLORY, 2, options=DRAIN)
    victim.await_words("did its worst", 40)
    unharmed(victim, 100)
    share = float(re.search(r"busy ([\d.]+)", victim.out())[1])
    require(share < 0.2, f"the library's thread was busy for {share:.0%} of the time, with nothing to do")
    lab.expect_lane(*(line for line in victim.all_stats() if line["pid"] == victim.pid), bytes_each=500)


CASES = {
    **{f"held_up_by_{misdeed.replace('-', '_')}": by_peer(misdeed, ALICE) for misdeed in (
        "lingering-alone", "lingering-beside-segment", "lingering-before-segment", "many-lingering", "lingering-without-hello",
        "lingering-in-bell", "lingering-behind-hello", "unheard-bell")},
    "held_up_by_stranger": by_stranger,
    "held_up_by_child": by_child,
}
