"""Operators' commands to running programs: `rsock lane`, `rsock reload`, `rsock list`, and what others print of them; and who else may knock."""

import json
import os
import re
import signal
import subprocess
import time

from cases.streams import CONNECTIONS, client, server
from lab import NOBODY, PORTS, Skipped, eventually, require

IDLE = 1000
IDLE_CPU_MS = 200  # of both ends, whatever else keeps the machine busy; on an emulated one it is not looked at
BACK = 20  # seconds: the other end asks every five seconds


def rsock_says(lab, *words):
    """What the command prints, both ways, however it ends: somebody may not answer."""
    done = subprocess.run([lab.stage / "rsock", *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def rsock(lab, *words, status=0, user=None, wrap=()):
    """What the command prints, both ways, when it ends with that status."""
    wrap = [*wrap] + ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
    done = subprocess.run([*wrap, lab.stage / "rsock", *map(str, words)], capture_output=True, text=True, timeout=60)
    require(done.returncode == status, f"rsock {' '.join(map(str, words))}: {done.returncode}, not {status}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def flows(lab, program, *words):
    """How many flows of a program are in rdma, shm, tcp, on the way in, on the way out; and why on TCP."""
    rsock_says = rsock(lab, "list", "--pid", program.pid, *words).splitlines()[1]
    fields = rsock_says.split(None, 7)
    return dict(zip(("rdma", "shm", "tcp", "enter", "leave"), map(int, fields[2:7]))) | {"why": fields[7] if len(fields) > 7 else ""}


def in_lane(lab, program, *words):
    return flows(lab, program, *words)[lab.carrier]


def crowd_of(lab, server, count, *more, **options):
    """Idle connections. Their points stay open for longer than a busy machine takes to dial them."""
    return lab.program("idle.py", lab.address, server.port, count, *more, **options)


def streams_go_on(lab):
    """Every byte of streams is right, whichever end is told to leave, and how often."""
    for turn, style in enumerate(("epoll", "threads", "edge", "poll")):
        served, port = server(lab, style, CONNECTIONS)
        ends = [served, client(lab, "threads" if turn % 2 else "epoll", port, turn, size=(64 if lab.lane == "shm" else 4) << 20)]
        for end in ends:
            end.await_lane()
        told = ends[turn % 2].program
        if turn > 1:
            for end in ends:
                end.hurry()
        whom = ("--pid", told.pid, *(("--port", port) if turn else ()))
        for again in range(4):
            said = rsock(lab, "lane", "tcp", *whom)
            require(f"{told.pid}]" in said, said)
            if turn > 1:  # at full speed, once: they end when they end
                break
            rsock(lab, "lane", "auto", *whom)
            for end in ends:
                eventually("back in the lane", lambda: in_lane(lab, end.program) == CONNECTIONS, BACK)
        for end in ends:
            end.hurry()
        for end in ends:
            stats = end.finish()
            lab.expect_lane(stats)
            told = {key: stats[key] for key in ("bytes_in", "returns", "reentries", "fallback")}
            require(stats["returns"].get("operator", 0) > 0 and stats["bytes_in"]["tcp"] > 0, f"{end.program.name}: {told}")
            if turn < 2:
                require(stats["returns"]["operator"] == stats["reentries"] == 4 * CONNECTIONS, f"{end.program.name}: {told}")
                require(not stats["fallback"], f"{end.program.name}: {told}")


def benchmark(lab):
    """Redis under redis-benchmark: no request fails while its flows go to and fro."""
    served = lab.redis()
    requests = 600000 if lab.lane == "shm" else 60000  # enough for some turns
    load = lab.start(["redis-benchmark", "-h", lab.address, "-p", served.port, "-t", "set,get", "-n", requests, "-c", 20, "-P", 2, "-q"])
    turns = 0
    while load.process.poll() is None:
        rsock(lab, "lane", "tcp", "--pid", served.pid)
        rsock(lab, "lane", "auto", "--pid", served.pid)
        turns += 1
        time.sleep(0.1)
    load.finish(400)
    require("SET:" in load.out() and "GET:" in load.out() and "rror" not in load.end_of_output(), load.end_of_output())
    took, stats = load.stats(), lab.stop(served)
    require(turns > 1 and stats["bytes_out"]["tcp"] > 0, f"{turns} turns: {stats}")
    lab.expect_lane(took, stats)


def unread_input(lab):
    """A client that has read nothing of what came before the lane enters it all the same, and goes back to TCP at once, and need not read
    before it writes."""
    port = next(PORTS)
    served = lab.program("unread.py", "server", lab.address, port)
    served.await_words("listening")
    reader = lab.program("unread.py", "client", lab.address, port)
    eventually("both are in the lane", lambda: all("is in its lane" in end.log() for end in (served, reader)), 30)
    rsock(lab, "lane", "tcp", "--pid", reader.pid)
    told = flows(lab, reader)
    require(told["tcp"] == 1 and told["leave"] == 0, f"{told}")
    reader.process.send_signal(signal.SIGUSR1)
    for end in reader, served:
        require("all is right" in end.finish(60), end.end_of_output())


def idle_crowd(lab):
    """How many flows that nobody uses, of which server and client; all in their lanes."""
    count = IDLE if lab.lane == "shm" else IDLE // 10
    served = lab.redis()
    crowd = crowd_of(lab, served, count)
    crowd.await_words("ready")
    eventually("all in their lanes", lambda: in_lane(lab, served) == count, 20)
    return count, served, crowd


def idle(lab):
    """A thousand flows that nobody uses leave at once, and go on."""
    count, served, crowd = idle_crowd(lab)
    before = served.cpu_ms() + crowd.cpu_ms()
    said = rsock(lab, "lane", "tcp", "--pid", served.pid)
    cost = served.cpu_ms() + crowd.cpu_ms() - before
    moved, took = map(int, re.search(r"(\d+) flows? left (?:its lane|their lanes) in (\d+) ms", said).groups())
    print(f"# {moved} idle flows left in {took} ms, and {cost} ms of CPU", flush=True)
    require(moved == count, said)
    require(lab.lane != "shm" or cost < IDLE_CPU_MS, f"{moved} idle flows took {cost} ms of CPU")
    for end in served, crowd:
        told = flows(lab, end)
        require(told["tcp"] == count and told[lab.carrier] == told["leave"] == 0, f"{end.name}: {told}")
    rsock(lab, "lane", "auto", "--pid", served.pid)
    eventually("all back in their lanes", lambda: in_lane(lab, served) == in_lane(lab, crowd) == count, BACK)
    crowd.process.terminate()
    require("all answered" in crowd.finish(), crowd.end_of_output())
    for stats in lab.stop(served), crowd.stats():
        lab.expect_lane(stats)
        require(stats["reentries"] == stats["returns"].get("operator") == count and not stats["fallback"],
                f"{stats['program']}: {stats['reentries']} {stats['returns']} {stats['fallback']}")


def stays_until_auto(lab):
    """New flows keep to TCP until they are let in again; then those that are there enter, too."""
    served = lab.redis()
    first = crowd_of(lab, served, 3)
    first.await_words("ready")
    said = rsock(lab, "lane", "tcp", "--program", "redis-serv*", "--port", served.port)
    require("3 flows left" in said, said)
    second = crowd_of(lab, served, 4, "any")
    second.await_words("ready")
    time.sleep(0.3)
    require(in_lane(lab, served) == 0 and in_lane(lab, second) == 0, f"{flows(lab, served)}")
    rsock(lab, "lane", "auto", "--pid", served.pid)
    third = crowd_of(lab, served, 5)
    third.await_words("ready")
    for end, count in (first, 3), (third, 5):
        eventually("in the lane", lambda: in_lane(lab, end) == count, BACK)
    for end in first, second, third:
        end.process.terminate()
        require("all answered" in end.finish(), end.end_of_output())
    lab.expect_lane(lab.stop(served), first.stats(), third.stats())


def by_port(lab):
    """A port of one's own: flows of another port stay in their lane."""
    one, other = lab.redis(), lab.redis()
    crowds = [crowd_of(lab, each, 2) for each in (one, other)]
    for crowd in crowds:
        crowd.await_words("ready")
    rsock(lab, "lane", "tcp", "--all", "--port", one.port)
    require(in_lane(lab, one) == 0 and in_lane(lab, crowds[0]) == 0, f"{flows(lab, one)}")
    require(in_lane(lab, other) == 2 and in_lane(lab, crowds[1]) == 2, f"{flows(lab, other)}")
    rsock(lab, "lane", "auto")
    for crowd in crowds:
        crowd.process.terminate()
        crowd.finish()
    require(lab.stop(one)["returns"].get("operator", 0) == 2, "nobody counted it")
    require(not lab.stop(other)["returns"], "the other port's flows left")


def whom(lab):
    """Nobody there, or nothing said that makes sense."""
    served = lab.redis()
    rsock(lab, "lane", "tcp", "--pid", os.getpid(), status=2)
    rsock(lab, "lane", "tcp", "--program", "no-such-program", status=2)
    for words in (["lane"], ["lane", "rdma"], ["lane", "tcp", "--port", "0"], ["lane", "tcp", "--port", "65536"],
                  ["lane", "tcp", "--pid", "x"], ["lane", "tcp", "--all", "--pid", served.pid], ["reload", "--port", "1"]):
        rsock(lab, *words, status=2)
    require(f"{served.pid}" in rsock(lab, "list", "--all"), "not listed")
    peer = crowd_of(lab, served, 2)
    peer.await_words("ready")
    peer.process.send_signal(19)  # SIGSTOP: it cannot come along
    said = rsock(lab, "lane", "tcp", "--pid", served.pid, "--timeout", "0.5", status=1)
    require("did not come back" in said, said)
    peer.process.send_signal(18)
    eventually("it comes along", lambda: flows(lab, served)["tcp"] == 2, 10)
    peer.process.terminate()
    require("all answered" in peer.finish(), peer.end_of_output())


def another_user(lab):
    """Neither another user's command nor another user's packets are heard; its own user's and root's are."""
    if os.geteuid() != 0:
        raise Skipped("only root can be two users")
    served = lab.redis(user=NOBODY)
    crowd = crowd_of(lab, served, 2, user=NOBODY)
    crowd.await_words("ready")
    rsock(lab, "lane", "tcp", "--pid", served.pid, user=NOBODY - 1, status=2)
    rsock(lab, "lane", "tcp", "--all", user=NOBODY - 1, status=2)
    stranger = lab.program("knocking.py", "refused", served.pid, preload=False, user=NOBODY - 1)
    require("done" in stranger.finish(), stranger.end_of_output())
    require(in_lane(lab, served) == 2, f"{flows(lab, served)}")
    rsock(lab, "lane", "tcp", "--all", "--port", served.port, user=NOBODY)
    require(in_lane(lab, served) == 0, f"{flows(lab, served)}")
    crowd.process.terminate()
    crowd.finish()
    lab.expect_lane(lab.stop(served))


def squatters(lab):
    """Others listen at such names and never answer: the command is as fast, finds the same, and prints nothing that a terminal obeys."""
    served = lab.redis()
    crowd = crowd_of(lab, served, 2)
    crowd.await_words("ready")

    def commands():
        begun = time.monotonic()
        require(in_lane(lab, served) == 2, f"{flows(lab, served)}")
        said = rsock_says(lab, "list", "--all")
        return said, time.monotonic() - begun

    _, alone = commands()
    squatter = lab.program("knocking.py", "squat", preload=False)
    squatter.await_words("ready")
    said, took = commands()
    # All are asked at once, for a second in each of three commands; an emulated machine needs as long again to knock at 240 doors.
    require(took < 2 * alone + 7, f"the commands took {took:.1f} s, and {alone:.1f} s before")
    for pid in served.pid, crowd.pid:
        require(f"{pid} " in said, said)
    require(not re.search(r"[^\n -~]", said), f"{said!r}")
    rsock(lab, "lane", "tcp", "--pid", served.pid)
    require(in_lane(lab, served) == 0, f"{flows(lab, served)}")
    for program in squatter, crowd:
        program.process.terminate()
        program.finish()
    lab.expect_lane(lab.stop(served))


def hostile_callers(lab):
    """Callers who say nothing, or nonsense, or never listen, cost the program nothing, and an operator is still heard."""
    served = lab.redis()
    load = lab.program("steady.py", lab.address, served.port, 4)
    load.await_words("ready")
    before = served.open_descriptors()
    callers = [lab.program("knocking.py", way, served.pid, load.pid, preload=False) for way in ("silent", "garbage", "flood")]
    for caller in callers:
        caller.await_words("ready")
    require(in_lane(lab, served) == 4, f"{flows(lab, served)}")
    require(served.open_descriptors() <= before + 10, f"{served.open_descriptors()} descriptors, {before} before")
    eventually("callers who say nothing are let go", lambda: served.open_descriptors() <= before + 1, 20)
    for caller in callers:
        caller.process.terminate()
        caller.finish()
    load.process.terminate()
    require(int(load.finish().split()[-1]) > 100, f"the load: {load.end_of_output()}")
    stats = lab.stop(served)
    lab.expect_lane(stats)
    require(not stats["fallback"], f"{stats['fallback']}")


def rules(lab, program, *ports, more=""):
    """Replaces the rules of a program."""
    text = "".join(f'[[rule]]\n{side} = "{lab.address}:{port}"\nlane = "{lab.lane}"\n' for side in ("listen", "connect") for port in ports)
    program.files["toml"].write_text(text + more)


def reload(lab):
    """A bad file changes nothing; a port that is no longer selected goes back to TCP, and comes again with the next rules."""
    served = lab.redis()
    other = next(PORTS)
    crowd = crowd_of(lab, served, 3)
    crowd.await_words("ready")
    for bad, diagnosis in (("[[rule]]\nlisten = 7\n", ":2:"), ("nonsense", ":1:")):
        served.files["toml"].write_text(bad)
        said = rsock(lab, "reload", "--pid", served.pid, status=1)
        require(f"{served.files['toml']}{diagnosis}" in said and "keeps its rules" in said, said)
        require(in_lane(lab, served) == 3, f"{flows(lab, served)}")
    served.files["toml"].unlink()
    require("No such file" in rsock(lab, "reload", "--pid", served.pid, status=1), "a file that is gone")
    rules(lab, served, served.port, other)
    require("0 flows selected no more" in rsock(lab, "reload", "--pid", served.pid), "the same rules")
    require(in_lane(lab, served) == 3, f"{flows(lab, served)}")
    rules(lab, served, other)
    require("3 flows selected no more" in rsock(lab, "reload", "--pid", served.pid), "other rules")
    told = flows(lab, served)
    require(told["tcp"] == 3 and told["why"] == "deselected 3", f"{told}")
    second = crowd_of(lab, served, 2, "any")
    second.await_words("ready")
    time.sleep(0.3)
    require(in_lane(lab, served) == 0 and flows(lab, served)["tcp"] == 3, f"{flows(lab, served)}")
    rules(lab, served, served.port)
    rsock(lab, "reload", "--program", "redis-server")
    third = crowd_of(lab, served, 4)
    third.await_words("ready")
    require(in_lane(lab, served) == 4, f"{flows(lab, served)}")
    for end in crowd, second, third:
        end.process.terminate()
        require("all answered" in end.finish(), end.end_of_output())
    stats = lab.stop(served)
    lab.expect_lane(stats, third.stats())
    require(stats["fallback"] == {"deselected": 3} and stats["flows"][lab.carrier] == 7, f"{stats}")


def told(lab):
    """Each of a thousand flows is told of once, in its lane, with its bytes, on a link that is told of, too; and so are the counters."""
    count, served, crowd = idle_crowd(lab)
    rows = json.loads(rsock(lab, "flows", "--json", "--pid", served.pid))
    require(len({row["id"] for row in rows}) == len(rows) == count, f"{len(rows)} flows are told of, and {count} are there")
    links = {link["id"]: link for link in json.loads(rsock(lab, "links", "--json", "--pid", served.pid))}
    for row in rows:
        require(row["lane"] == lab.carrier and row["bytes_in"] > 0 and row["bytes_out"] > 0 and row["link"] in links, f"{row}")
        require(row["local"].endswith(f":{served.port}") and row["role"] == "accepted" and row["why"] is None, f"{row}")
    for link in links.values():
        require(link["lane"] == lab.carrier and link["memory"] > 0 and link["credits"] > 0, f"{link}")
        require((link["device"] is not None) == (link["inline"] is not None) == (lab.carrier == "rdma"), f"{link}")
    require(sum(link["flows"] for link in links.values()) == count, f"{links}")
    stats = json.loads(rsock(lab, "stats", "--json", "--pid", served.pid))[0]
    require(stats["flows"][lab.carrier] == count, f"{stats}")
    rsock(lab, "lane", "tcp", "--pid", served.pid)
    rows = json.loads(rsock(lab, "flows", "--json", "--pid", served.pid))
    require(len(rows) == count and all(row["lane"] == "tcp" and row["why"] == "operator" for row in rows), f"{rows[:3]}")
    crowd.process.terminate()
    require("all answered" in crowd.finish(), crowd.end_of_output())
    lab.expect_lane(lab.stop(served), crowd.stats())


CASES = {f"operators_{case.__name__}": case
         for case in (streams_go_on, benchmark, idle, stays_until_auto, by_port, whom, another_user, squatters, hostile_callers, reload, unread_input, told)}
