"""A peer that breaks the protocol (tests/programs/hostile) costs itself its link, and nobody else anything: the process it
attacks lives, flows beside it keep their lane and every byte, new ones enter it, and nothing of the attack stays."""

import re

from lab import PORTS, eventually, require

# A server looks for a hostile client for a few dials only.
OPTIONS = "dial_ms = 1000\nrendezvous_ms = 2000\n"
# The next connection to a hostile server is there while it still looks what became of the one before: its point has to wait.
OPEN_LONG = "dial_ms = 1000\nrendezvous_ms = 20000\n"
# What each misdeed comes to: of the link, and of the TCP connection below it.
LOST, GONE = "link lost, tcp works", "link lost, tcp over"
KEPT, SPOILT = "link kept, tcp works", "link kept, tcp over"
REFUSED, NEVER = "link refused, tcp works", "link never, tcp works"

LEAVING = {
    "link-leaves-linked": LOST, "link-leaves-keyed": LOST, "link-leaves-claimed": LOST, "link-leaves-accepted": LOST,
    "link-leaves-confirmed": LOST, "link-leaves-answered": GONE, "link-leaves-lane": GONE,
    # The link alone would stay, with a slot that is never given back. A claim that comes after the end of its connection has none.
    "tcp-leaves-claimed": (GONE, SPOILT), "tcp-leaves-accepted": GONE, "tcp-leaves-confirmed": GONE, "tcp-leaves-answered": GONE,
    "tcp-leaves-lane": GONE,
}
MESSAGES = dict.fromkeys((
    "random-message", "empty-message", "short-message", "unknown-kind", "long-message", "slot-of-nobody", "data-for-nobody",
    "data-of-no-slot", "unused-credits", "too-many-messages", "starved-claims"), LOST)
IN_LANE = dict.fromkeys((
    "data-beyond-window", "data-elsewhere", "data-by-wrong-key", "window-beyond-posted", "growth-without-end",
    "growth-of-odd-size", "switch-to-nothing", "starved-windows", "ended-twice", "ended-elsewhere", "retired-twice",
    "garbage-frame", "resume-beyond", "resume-elsewhere", "resume-by-peers-token", "late-key", "ring-of-nobody"), GONE)
# Marks that are none are the program's own bytes. One of another link, or which was made by whoever has not read the other, is a peer
# that lies: a server has not written anything yet, and goes on by TCP; a client has, and its peer with it, so that only an end of the
# connection is left.
KEYS = dict.fromkeys(("window-before-key", "second-key", "wrong-proof"), LOST)
TOKENS = dict.fromkeys(("wrong-token", "half-a-token", "token-of-another-nonce"), KEPT)
ENDED_EARLY = dict.fromkeys(("ended-early", "closed-early", "reset-early"), LOST)


def judge(hostile, misdeeds):
    """Each came to what it was to come to."""
    hostile.await_words("done", 90)
    for name, expected in misdeeds.items():
        found = re.search(f"^{name.rstrip('+')}: (link .*), \\d+ dials$", hostile.out(), re.M)
        require(found, f"{name} was not done: {hostile.end_of_output()}")
        allowed = expected if isinstance(expected, tuple) else (expected,)
        require(found[1] in allowed, f"{name}: {found[1]}, not {' or '.join(allowed)}")


def open_links(program):
    log = program.log()
    made = set(re.findall(r"info \S+ link (\d+) to \S+$", log, re.M))
    return len(made - set(re.findall(r"link (\d+) to \S+ failed", log)))


def unharmed(victim, before, reasons, hostile):
    """Nothing of the attack stays, and the log says what it was."""
    descriptors, memory = before
    require(victim.process.poll() is None, f"{victim.name} ended with {victim.process.poll()}")
    # Threads that wait at once have an eventfd each, which is kept for the next; a leak would be one for each misdeed.
    eventually(f"{victim.name} closes what it opened ({victim.open_descriptors()} descriptors, {descriptors} before)",
               lambda: victim.open_descriptors() <= descriptors + 2, 10)
    # A link costs 0.6 MiB, and up to 18 may be held for a while; the completion queues that they needed, 7 MiB, are kept. Fifty
    # dials that each left something behind would be 30 MiB.
    eventually(f"{victim.name} gives back its memory ({victim.resident_kib()} KiB, {memory} before)",
               lambda: victim.resident_kib() < memory + 20000, 10)
    for reason in reasons:
        require(reason in victim.log(), f"{victim.name} never said: {reason}; {hostile.end_of_output()}")


ATTACKED = {"protocol", "link-failed", "peer-version", "not-dialled"}  # why flows to a hostile peer stay on TCP


def kept_lane(good, least, excuses=frozenset()):
    """It was right all the time, and in its lane."""
    good.process.terminate()
    require(int(good.finish().split()[-1]) >= least, f"{good.name} was not served: {good.end_of_output()}")
    require(good.preloaded and not good.stats()["fallback"].keys() - {"short-lived", *excuses},
            f"{good.stats()['fallback']}")


def at_server(misdeeds, *reasons, says=""):
    """Redis is dialled at by a client whose point misbehaves, and which says so in the end."""
    def case(lab):
        server = lab.redis(options=OPTIONS)
        good = lab.program("steady.py", lab.address, server.port, 2)
        good.await_words("ready")
        before = server.open_descriptors(), server.resident_kib()
        hostile = lab.start([lab.stage / "hostile", "client", lab.address, server.port, *misdeeds], preload=False)
        judge(hostile, misdeeds)
        require(says in hostile.out(), f"not {says}: {hostile.end_of_output()}")
        dials = [int(count) for count in re.findall(r"(\d+) dials", hostile.out())]
        require(max(dials) <= 3, f"{max(dials)} dials for one connection")
        late = lab.program("steady.py", lab.address, server.port, 1)
        late.await_words("ready", 30)
        kept_lane(late, 0)
        unharmed(server, before, reasons, hostile)
        require(not re.search("loses its link|stays on TCP", good.log()), "the good client lost its lane")
        kept_lane(good, 100)
        lab.expect_lane(lab.stop(server), good.stats(), late.stats(), bytes_each=50)
    return case


def at_client(misdeeds, *reasons):
    """A client that is dialled by a server that misbehaves."""
    def case(lab):
        server, port = lab.redis(), next(PORTS)
        hostile = lab.start([lab.stage / "hostile", "server", lab.address, port, *misdeeds], preload=False)
        hostile.await_words("ready")
        client = lab.program("echoing.py", lab.address, server.port, port, len(misdeeds), options=OPEN_LONG)
        client.await_words("ready")
        before = client.open_descriptors(), client.resident_kib()
        own = re.search(r"flow (\S+) to \S+ is in its lane", client.log())[1]
        judge(hostile, misdeeds)
        links = open_links(client)
        require(links <= 18, f"the client holds {links} links")
        if any(name.endswith("+") for name in misdeeds):
            hostile.kill()
        unharmed(client, before, reasons, hostile)
        require(not re.search(f"flow {own} .*(loses its link|stays on TCP)", client.log()), "the good flow lost its lane")
        kept_lane(client, 30, ATTACKED)
        late = lab.program("steady.py", lab.address, server.port, 1)
        late.await_words("ready", 30)
        kept_lane(late, 0)
        lab.expect_lane(lab.stop(server), client.stats(), late.stats(), bytes_each=50)
    return case


def retired_after_half_close(lab):
    """The bytes that a server has not read yet are still there when its peer gives the slot back, unasked."""
    port = next(PORTS)
    server = lab.program("halving.py", lab.address, port)
    server.await_words("listening")
    hostile = lab.start([lab.stage / "hostile", "client", lab.address, port, "retired-half"], preload=False)
    judge(hostile, {"retired-half": SPOILT})
    require("64 bytes were read" in server.finish(30), server.end_of_output())
    lab.expect_lane(server.stats(), bytes_each=64)


def relayed(lab):
    """Whoever has a link to each end of somebody else's connection, from the peer's own address, gets neither bytes nor a place in
    the stream: the token that the client shows is not one of the link that the server has."""
    relay(lab, 1)


def relay(lab, host):
    """The server is on `host`, the client on the first. Each half of the relay is where the end is that it passes for."""
    server, port, half_port = lab.redis(options=OPTIONS, host=host), next(PORTS), next(PORTS)
    to_client = lab.start([lab.stage / "hostile", "relay-to-client", lab.address, port, half_port], preload=False, host=host,
                          name="relay-to-client")
    to_client.await_words("ready")
    to_server = lab.start([lab.stage / "hostile", "relay-to-server", lab.address, server.port, lab.address, half_port], preload=False,
                          name="relay-to-server")
    client = lab.program("relayed.py", lab.address, server.port, port, options=OPTIONS)
    to_server.await_words("of the server", 90)
    to_client.await_words("of the client", 90)
    words = to_server.out() + to_client.out()
    require("handed on CONFIRM" in words, f"the relay did not come between them: {words}")
    require("read 0 bytes of the server, link lost" in words and "read 0 bytes of the client" in words, words)
    require("is at the other end of another link" in server.log(), "the server did not notice")
    eventually("the client enters a lane of its own", lambda: "is in its lane" in client.log(), 20)
    so_far = client.out()
    eventually("the client goes on there", lambda: len(client.out().removeprefix(so_far).splitlines()) > 2, 60)
    client.process.terminate()
    client.finish()
    lab.expect_lane(client.stats(), bytes_each=50)
    if host == 1:
        lab.expect_lane(lab.stop(server), bytes_each=50)


# Of fifty dials the last may be answered late, or not at all: what counts is what they leave behind.
CASES = {
    "hostile_greetings_to_server": at_server(
        dict.fromkeys(("garbage-greeting", "no-greeting", "wrong-magic", "wrong-version", "unknown-verdict", "short-greeting",
                       "no-receives", "endless-receives", "long-greeting"), LOST), "peer-version"),
    "hostile_messages_to_server": at_server(
        MESSAGES, "a message that cannot be read", "data for no flow", "more than its credits", "credits that were never used"),
    "hostile_keys_to_server": at_server(
        {**KEYS, "returned-proof": LOST, "keyless-greeting": LOST, "mute-when-linked": LOST, "mute-when-keyed": LOST},
        "a message before its key", "a second key", "it does not know the secret", "a key that is none"),
    "hostile_cutovers_to_server": at_server(
        {"accepted-twice": LOST, "confirmed-by-connector": LOST, "offset-too-large": KEPT, "offset-ahead": KEPT, "offset-too-small": KEPT,
         "retired-early": LOST, "retired-begun-without-token": KEPT, "retired-unbegun-with-token": KEPT, **ENDED_EARLY,
         "data-when-confirmed": LOST},
        "a message that its flow cannot expect", "beyond its window"),
    # Without a word a server that has shown its token can only wait, and its program with it, who has half a minute for that.
    "hostile_witnesses_to_server": at_server(
        {"witness-early": LOST, "witness-wrong": GONE, "witness-twice": GONE, "data-without-witness": GONE, "ended-without-witness": GONE,
         "reset-without-witness": GONE, "witness-too-late": KEPT, "witness-when-reset": SPOILT},
        "a message that its flow cannot expect", "beyond its window"),
    "hostile_without_witness_to_server": at_server(
        {"no-witness": GONE}, "fails: errno 104", "a slot that is never given back",
        says="without a witness: 0 bytes on TCP, 0 in the ring"),
    "hostile_tokens_to_server": at_server(
        {**TOKENS, "token-of-another-link": LOST, "token-freshened": LOST, "no-from-client": LOST}, "is at the other end of another link"),
    "hostile_lanes_to_server": at_server(IN_LANE, "a message that its flow cannot expect", "beyond its window"),
    "hostile_leaving_server": at_server(LEAVING, "a slot that is never given back"),
    "hostile_silence_to_server": at_server(
        {"mute-when-claimed": LOST, "mute-when-accepted": KEPT, "mute-when-confirmed": KEPT, "mute-when-answered": SPOILT,
         "mute-when-lane": SPOILT, "never-answered": NEVER, "always-declined": KEPT, "always-hung-up": NEVER}),
    "hostile_messages_to_client": at_client(
        {"garbage-greeting": REFUSED, "short-greeting": REFUSED, "wrong-version": REFUSED, **MESSAGES, "claims-of-nobody": KEPT,
         "claimed-twice": KEPT, "ring-of-odd-size": LOST},
        "a message that cannot be read", "data for no flow", "more than its credits"),
    "hostile_keys_to_client": at_client(
        {**KEYS, "message-before-key": LOST, "key-of-small-order": LOST, "mute-when-linked": KEPT, "mute-when-keyed": KEPT},
        "a message before its key", "a second key", "it does not know the secret"),
    "hostile_cutovers_to_client": at_client(
        {"accepted-by-acceptor": LOST, "confirmed-twice": KEPT, "confirmed-too-large": KEPT, "confirmed-too-small": KEPT,
         "confirmed-ahead": KEPT, "retired-accepted": KEPT, "retired-shown": KEPT, **ENDED_EARLY, "data-when-accepted": LOST,
         "data-and-no-token": LOST, "ended-and-no-token": LOST, "reset-and-no-token": LOST, "witness-by-acceptor": LOST},
        "a message that its flow cannot expect", "beyond its window"),
    "hostile_tokens_to_client": at_client(
        {**TOKENS, "token-of-another-link": GONE, "token-freshened": GONE, "token-without-answer": GONE, "no-from-server": KEPT,
         "no-without-answer": GONE}, "is at the other end of another link"),
    "hostile_lanes_to_client": at_client({**IN_LANE, "mute-when-claimed": KEPT},
        "a message that its flow cannot expect", "beyond its window"),
    "hostile_leaving_client": at_client({**LEAVING, "many-dials+": (KEPT, LOST, NEVER, REFUSED)}, "a slot that is never given back",
                                        "is one too many without flows"),
    "retired_after_half_close": retired_after_half_close,
    "hostile_relay": relayed,
}
