"""Connections that stay on TCP, and work: beside plain programs, and wherever a link cannot be set up. The statistics of both ends
say why."""

import contextlib
import functools
import glob
import os

from lab import NOBODY, PATIENT, Skipped, eventually, require

SIZES = "0,1,4096,65537,1048576"


def use(lab, server, **more):
    """A client on whatever lane that stays until both ends have decided; then one that writes and reads values."""
    client = lab.program("steady.py", lab.address, server.port, 1, "any", **more)
    client.await_words("ready")
    for end in client, server:
        if end.preloaded:
            eventually(f"{end.name} decides", end.decided, 30)
    client.process.terminate()
    require(int(client.finish().split()[-1]) > 0, "the client was not served")
    lab.program("values.py", lab.address, server.port, "blocking", "any", SIZES, **more).finish()
    return client


def expect_tcp(program, *reasons, stats=None):
    """All its flows stayed on TCP, for one of the reasons; those that ended sooner were too short-lived for one."""
    stats = stats or program.stats()
    fallback = stats["fallback"]
    require(stats["flows"]["rdma"] == 0 and stats["flows"]["tcp"] > 0, f"{program.name}: {stats['flows']}")
    require(stats["bytes_in"]["tcp"] > 0 and stats["bytes_in"]["rdma"] == 0, f"{program.name}: {stats['bytes_in']}")
    require(fallback.keys() & set(reasons) and fallback.keys() <= {"short-lived", *reasons},
            f"{program.name} fell back for {fallback}, not {' or '.join(reasons)}")
    require(sum(fallback.values()) == stats["flows"]["tcp"], f"{program.name}: {stats['flows']}, {fallback}")


def lane_still_works(lab):
    """What a case did to the machine was undone."""
    lab.patience = PATIENT
    server = lab.redis()
    client = lab.program("crowd.py", lab.address, server.port, 1, 1)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats())


def plain_clients(lab):
    server = lab.redis()
    for way in "blocking", "epoll":
        client = lab.program("values.py", lab.address, server.port, way, "any", SIZES, preload=False)
        client.finish()
    done = lab.start(["redis-benchmark", "-h", lab.address, "-p", server.port, "-t", "set,get", "-n", 2000, "-c", 20, "-q"],
                     preload=False)
    done.finish()
    # One that lives long enough for the server to be sure of it.
    steady = lab.program("steady.py", lab.address, server.port, 2, "any", preload=False)
    steady.await_words("ready")
    eventually("the server gives up dialling", lambda: server.log().count("stays on TCP: plain-peer") >= 2, 30)
    steady.process.terminate()
    steady.finish()
    expect_tcp(server, "plain-peer", "short-lived", "crowded", stats=lab.stop(server))
    require(server.stats()["fallback"].get("plain-peer", 0) >= 2, f"no plain-peer: {server.stats()['fallback']}")


def plain_server(lab):
    server = lab.redis(preload=False)
    use(lab, server)
    steady = lab.program("steady.py", lab.address, server.port, 3, "any")
    steady.await_words("ready")
    eventually("the client gives up waiting", lambda: steady.log().count("stays on TCP: not-dialled") == 3, 30)
    steady.process.terminate()
    steady.finish()
    expect_tcp(steady, "not-dialled")
    server.terminate()


def plain_and_preloaded(lab):
    """On one server, at once: either kind gets what it is due."""
    lab.patience = PATIENT
    server = lab.redis()
    plain = [lab.program("steady.py", lab.address, server.port, 3, "any", preload=False) for _ in range(2)]
    for client in plain:
        client.await_words("ready")
    laned = [lab.program("steady.py", lab.address, server.port, 3) for _ in range(2)]
    for client in laned:
        client.await_words("ready")
    for client in plain + laned:
        client.process.terminate()
        require(int(client.finish().split()[-1]) > 20, "a client was not served")
    served = lab.stop(server)
    lab.expect_lane(served, *(client.stats() for client in laned), bytes_each=200)
    require(served["flows"]["rdma"] == 6, f"{served['flows']}, not 6 in the lane")


def without_device(lab):
    with lab.removed_device():
        server = lab.redis()
        client = use(lab, server)
        expect_tcp(client, "no-device")
        expect_tcp(server, "no-device", stats=lab.stop(server))
    lane_still_works(lab)


def device_comes_back(lab):
    """A server that began without a device takes the lane once there is one."""
    with lab.removed_device():
        server = lab.redis()
        use(lab, server)
    lab.patience = PATIENT
    client = lab.program("crowd.py", lab.address, server.port, 1, 1)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats())


def loopback(lab):
    """No RDMA device has 127.0.0.1."""
    lab.address = "127.0.0.1"
    server = lab.redis("--bind", lab.address)
    client = use(lab, server)
    expect_tcp(client, "no-device", "not-dialled")
    expect_tcp(server, "no-device", "no-route", "plain-peer", stats=lab.stop(server))


@contextlib.contextmanager
def device_files(lab, mode):
    files = [lab.fabric.folder / "device"] if lab.fabric else glob.glob("/dev/infiniband/*")
    before = {path: os.stat(path).st_mode & 0o777 for path in files}
    for path in before:
        os.chmod(path, mode)
    try:
        yield
    finally:
        for path, old in before.items():
            os.chmod(path, old)


def without_permission(lab):
    with device_files(lab, 0o600):
        server = lab.redis(user=NOBODY)
        client = use(lab, server, user=NOBODY)
        expect_tcp(client, "no-permission")
        expect_tcp(server, "no-permission", stats=lab.stop(server))


def unprivileged(lab):
    """Without any privilege the lane works, as long as memory may be locked."""
    lab.patience = PATIENT
    with device_files(lab, 0o666):
        server = lab.redis(user=NOBODY, limits={"memlock": 256 << 20})
        client = lab.program("crowd.py", lab.address, server.port, 10, 3, user=NOBODY, limits={"memlock": 256 << 20})
        client.finish()
        lab.expect_lane(lab.stop(server), client.stats())


def locked_memory(lab):
    """At either end, and at both."""
    small = {"user": NOBODY, "limits": {"memlock": 64 << 10}}
    with device_files(lab, 0o666):
        for at_server, at_client in ((small, small), (small, {}), ({}, small)):
            server = lab.redis(**at_server)
            client = use(lab, server, **at_client)
            served = lab.stop(server)
            expect_tcp(client, "not-dialled", "locked-memory", "peer-declined")
            expect_tcp(server, "locked-memory" if at_server else "peer-declined", stats=served)


def max_pinned(lab):
    """The option's smallest value: some flows or none, and the others say so."""
    server = lab.redis(options='max_pinned = "1M"\n')
    client = lab.program("crowd.py", lab.address, server.port, 100, 20, "any")
    client.finish()
    served = lab.stop(server)
    require(served["fallback"].get("locked-memory", 0) > 0, f"server: {served['flows']} {served['fallback']}")
    require(sum(client.stats()["flows"].values()) == 100, f"client: {client.stats()['flows']}")


def few_descriptors(lab):
    """Whatever number of descriptors is left, the program is served. (With fewer than 8, Python itself does not start.)"""
    verdicts = []
    server = lab.redis()
    for limit in (*range(8, 17), 20, 24):
        client = use(lab, server, limits={"nofile": limit})
        lines = client.all_stats()
        if not lines:  # no descriptor was left for the statistics either
            verdicts.append("unknown")
            continue
        stats = lines[0]
        in_lane = stats["flows"][lab.carrier]
        verdicts.append("lane" if in_lane else ",".join(stats["fallback"]))
        allowed = {"descriptors", "not-dialled", "short-lived", "link-failed", "no-device"}
        require(set(stats["fallback"]) <= allowed, f"with {limit} descriptors: {stats}")
    require("descriptors" in verdicts, f"no fallback says descriptors: {verdicts}")
    lab.stop(server)


def server_descriptors(lab):
    """A server whose descriptors run out while clients come."""
    server = lab.redis("--maxclients", 100, limits={"nofile": "140:140"})
    client = lab.program("crowd.py", lab.address, server.port, 90, 10, "any")
    client.finish()
    lab.stop(server)
    require(sum(client.stats()["flows"].values()) == 90, f"client: {client.stats()['flows']}")


def without_rdma_core(lab):
    hidden = glob.glob("/usr/lib/*/librdmacm.so.1*") + glob.glob("/lib/*/librdmacm.so.1*")
    if lab.fabric:
        hidden = [lab.fabric.folder / "librdmacm.so.1"]
    if not hidden:
        raise Skipped("librdmacm is not where it is in Debian")
    hide = "; ".join(f"mount --bind /dev/null {os.path.realpath(path)}" for path in sorted(set(map(os.path.realpath, hidden))))
    wrap = ["unshare", "--mount", "sh", "-c", hide + '; exec "$@"', "-"]
    server = lab.redis(wrap=wrap)
    client = use(lab, server, wrap=wrap)
    expect_tcp(client, "no-device")
    expect_tcp(server, "no-device", stats=lab.stop(server))
    half = lab.redis()
    client = use(lab, half, wrap=wrap)
    expect_tcp(client, "no-device")
    lab.stop(half)


def rules_say_tcp(lab):
    """One end's rules keep it out of every lane."""
    server = lab.redis()
    lab.lane = "tcp"
    # The client's flows are not selected: it has nothing to decide.
    client = lab.program("values.py", lab.address, server.port, "blocking", "any", SIZES)
    client.finish()
    stats = client.stats()
    require(stats["flows"]["rdma"] == 0 and stats["bytes_in"]["rdma"] == 0, f"{stats}")
    served = lab.stop(server)
    require(served["flows"]["rdma"] == 0 and served["flows"]["tcp"] > 0, f"{served}")


def other_version(lab):
    """A peer of another version of the protocol, at either end."""
    other = {"library": "librsock_other_version.so"}
    for at_server, at_client in ((other, {}), ({}, other)):
        server = lab.redis(**at_server)
        client = use(lab, server, **at_client)
        expect_tcp(client, "peer-version")
        expect_tcp(server, "peer-version", stats=lab.stop(server))
        for end in client, server:
            require(end.stats()["fallback"].get("peer-version", 0) > 0, f"{end.name}: {end.stats()['fallback']}")
    # Two of them understand each other.
    lab.patience = PATIENT
    server = lab.redis(**other)
    client = lab.program("crowd.py", lab.address, server.port, 1, 1, **other)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats())


def next_version(lab):
    """A peer that is one version ahead, at either end, speaks this one's."""
    lab.patience = PATIENT
    ahead = {"library": "librsock_next_version.so"}
    for at_server, at_client in ((ahead, {}), ({}, ahead)):
        server = lab.redis(**at_server)
        client = lab.program("crowd.py", lab.address, server.port, 1, 1, **at_client)
        client.finish()
        lab.expect_lane(lab.stop(server), client.stats())


def impatient(case):
    """Flows that will not enter a lane are to say so soon."""
    @functools.wraps(case)
    def run(lab):
        lab.patience = ""
        case(lab)
    return run


CASES = {case.__name__: impatient(case) for case in (
    plain_clients, plain_server, plain_and_preloaded, without_device, device_comes_back, loopback, without_permission, unprivileged,
    locked_memory, max_pinned, few_descriptors, server_descriptors, without_rdma_core, rules_say_tcp, other_version, next_version)}
