"""What every case works with: programs that run preloaded or not, in a folder of their own, and what the library says
about them. Nothing outlives a Lab."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

from worlds import SANITIZER_OPTIONS, preloaded  # noqa: E402

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else shutil.which("python3")
SELECTED = "7200-7899"


class Ports:
    """The selected ones, each once."""

    def __init__(self):
        self.numbers = itertools.count(7200)

    def __next__(self):
        return next(self.numbers)

    def share(self, number):
        """Fifty from the end, from now on: others take theirs at the same time."""
        self.numbers = itertools.count(7850 - 50 * number)


PORTS = Ports()
COUNTERS = pathlib.Path("/sys/class/infiniband/rxe0/ports/1/hw_counters")
NOBODY = 65534
START_SECONDS = 60  # an emulated processor on a busy machine takes its time
RUN_SECONDS = 180
COMMAND_SECONDS = 180  # on a host
# Cases say how long something may take on a machine that does nothing else. Others may keep its cores busy.
BUSY = 4
# How long programs wait for each other to begin, unless the case is about just that: flows must not settle on TCP because a busy
# machine was slow.
PATIENT = "rendezvous_ms = 10000\n"
LOG = os.environ.get("RSOCK_E2E_LOG", "info")


class Failed(Exception):
    """The case's verdict, and why."""


class Skipped(Exception):
    """The case cannot be run here, and why."""


def require(condition, why):
    if not condition:
        raise Failed(why)


def eventually(what, condition, seconds=20, pause=0.05):
    """The first true value of condition(), which is asked again and again."""
    deadline = time.monotonic() + seconds * BUSY
    while not (value := condition()):
        require(time.monotonic() < deadline, f"not within {seconds * BUSY} s: {what}")
        time.sleep(pause)
    return value


def packets(host=1, counter="sent_pkts"):
    """The packets that the RDMA device of a host has sent so far."""
    return int(on_host(host, "cat", COUNTERS / counter))


def on_host(host, *command):
    """What a command prints there."""
    words = [*(["on-host", "2"] if host == 2 else []), *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    require(done.returncode == 0, f"host {host}: {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def has_lane(stats):
    return stats["flows"]["rdma"] + stats["flows"]["shm"] > 0


class Program:
    """One process that was started; its output, log and statistics are files."""

    def __init__(self, name, process, files, preloaded, host=1):
        self.name, self.process, self.files, self.preloaded, self.host = name, process, files, preloaded, host

    @property
    def pid(self):
        return self.process.pid

    def text(self, kind):
        path = self.files[kind]
        return path.read_text(errors="replace") if path.exists() else ""

    def out(self):
        return self.text("out")

    def log(self):
        return self.text("log")

    def said(self, word):
        """Whether its output contains `word`; a failure when it has ended without."""
        status = self.process.poll()
        said = word in self.out()
        require(said or status is None, f"{self.name} ended with {status}: {self.end_of_output()}")
        return said

    def await_words(self, word, seconds=START_SECONDS):
        eventually(f"{self.name} says '{word}' (it said: {self.end_of_output()})", lambda: self.said(word), seconds)

    def end_of_output(self):
        return " | ".join((self.out() + self.text("err")).splitlines()[-4:])[-500:]

    def finish(self, seconds=RUN_SECONDS, status=0):
        """Waits for its end, which must be in order; what it printed."""
        seconds = max(seconds, min(seconds * BUSY, RUN_SECONDS))
        try:
            ended = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} still runs after {seconds} s, {self.where()}: {self.end_of_output()}") from None
        require(ended == status, f"{self.name} ended with {ended}: {self.end_of_output()}")
        return self.out()

    def keep_stacks(self):
        """For whoever looks into a failure: what each thread does, as far as there is a debugger."""
        if self.process.poll() is None and shutil.which("gdb"):
            with open(self.files["out"].with_suffix(".stacks"), "wb") as out, contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["gdb", "-p", str(self.pid), "-batch", "-ex", "thread apply all bt"], stdout=out, stderr=out,
                               stdin=subprocess.DEVNULL, timeout=120)

    def where(self):
        """Where each thread sleeps."""
        places = []
        for task in pathlib.Path(f"/proc/{self.pid}/task").glob("*"):
            try:
                places.append(f"{(task / 'comm').read_text().strip()} in {(task / 'wchan').read_text()}")
            except OSError:
                pass
        return ", ".join(places)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.finish(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def all_stats(self):
        """The lines of this process and of its children, one each."""
        return [json.loads(line) for line in self.text("stats").splitlines()]

    def stats(self):
        """The line of the process itself."""
        lines = [line for line in self.all_stats() if line["pid"] == self.pid or self.host == 2]
        require(len(lines) == 1, f"{self.name} left {len(lines)} lines of statistics, not one")
        return lines[0]

    def decided(self):
        """Whether its library has decided about some flow."""
        return re.search("is in its lane|stays on TCP", self.log())

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_ms(self):
        """What it has used so far, in the kernel's ticks of 10 ms."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 10

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise Failed(f"{self.name} is gone")


class Lab:
    """For one case. `stage` holds librsock.so and the programs where every user can read them; `folder` is the case's own. `fabric`:
    what makes a device in a folder, where one is played (worlds.fabric); it is the case's own, too."""

    def __init__(self, stage, folder, address, lane, fabric=None):
        self.stage, self.folder, self.address, self.lane = stage, folder, address, lane
        # What has to carry the bytes, at a lane that carries any.
        self.carrier = "shm" if lane in ("shm", "auto") else "rdma"
        self.patience = PATIENT
        self.numbers = itertools.count()
        self.programs = []
        self.log_folder = folder  # another one may be each host's own
        self.while_it_lasts = contextlib.ExitStack()
        self.fabric = self.while_it_lasts.enter_context(fabric(folder)) if fabric else None
        self.first_packets = packets() if COUNTERS.exists() else 0

    def config(self, path, options):
        if "rendezvous_ms" not in options:
            options = self.patience + options
        rules = [f'[[rule]]\n{side} = "{self.address}:{SELECTED}"\nlane = "{self.lane}"\n' for side in ("listen", "connect")]
        path.write_text("\n".join(rules) + "\n[options]\n" + options)

    def start(self, command, preload=True, options="", name=None, limits=None, user=None, log=None, wrap=(), stdin=None,
              library="librsock.so", host=1):
        """Starts `command`; `limits` are {resource: value}, `user` a numeric one without privileges, `wrap` what runs it. On host
        2 its process is that of on-host, and its input is empty."""
        wrap = [*(["on-host", 2] if host == 2 else []), *wrap]
        command = [str(word) for word in command]
        name = name or os.path.basename(command[1 if command[0] == PYTHON else 0])
        stem = self.folder / f"{next(self.numbers):02}-{name}"
        files = {kind: stem.with_suffix("." + kind) for kind in ("out", "err", "log", "stats", "toml")}
        files["log"] = self.log_folder / files["log"].name
        env = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD" and not key.startswith("RSOCK_")}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        if self.fabric:
            env |= self.fabric.environment
        for sanitizer, its in SANITIZER_OPTIONS.items():
            env.setdefault(sanitizer, its)
        env["E2E_PATIENCE"] = "3" if self.lane == "tcp" else str(20 * BUSY)
        words = []
        if preload:
            self.config(files["toml"], options)
            words = ["env", f"LD_PRELOAD={preloaded(self.stage / library)}", f"RSOCK_CONFIG={files['toml']}",
                     f"RSOCK_STATS_FILE={files['stats']}", f"RSOCK_LOG={log or LOG}:{files['log']}"]
        if limits:
            words = ["prlimit", *(f"--{key}={value}" for key, value in limits.items()), "--", *words]
        if user:
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--", *words]
        with open(files["out"], "wb") as out, open(files["err"], "wb") as err:
            process = subprocess.Popen([*map(str, wrap), *words, *command], env=env, stdout=out, stderr=err, cwd=self.folder,
                                       stdin=stdin or subprocess.DEVNULL)
        program = Program(name, process, files, preload, host)
        self.programs.append(program)
        return program

    def program(self, script, *arguments, **more):
        """One of programs/, in Python."""
        return self.start([PYTHON, self.stage / "programs" / script, *arguments], name=script.removesuffix(".py"), **more)

    def redis(self, *settings, port=None, **more):
        """A server, ready. Its loopback address is not selected: what is said to it there disturbs nothing."""
        port = port or next(PORTS)
        home = self.folder / f"redis-{port}"
        home.mkdir(exist_ok=True)
        home.chmod(0o777)
        server = self.start(["redis-server", "--save", "", "--appendonly", "no", "--bind", self.address, "127.0.0.1",
                             "--protected-mode", "no", "--port", port, "--dir", home, *settings], **more)
        server.port, server.home = port, home
        server.await_words("Ready to accept connections")
        return server

    def ask(self, server, *words):
        """What a plain redis-cli gets as an answer, over the loopback address."""
        done = subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(server.port), *map(str, words)],
                              capture_output=True, text=True, timeout=60)
        require(done.returncode == 0, f"redis-cli {words[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def stop(self, server):
        """Its statistics, after an orderly end."""
        server.terminate()
        return server.stats()

    def expect_lane(self, *ends, bytes_each=1, links=None):
        """Every one of `ends`, statistics, took the lane with at least that many bytes in; and the device was used, if any."""
        for stats in ends:
            told = {key: stats[key] for key in ("flows", "bytes_in", "bytes_out", "links", "fallback")}
            require(stats["flows"][self.carrier] > 0 and stats["bytes_in"][self.carrier] >= bytes_each,
                    f"{stats['program']} did not take the lane: {told}")
            require(links is None or stats["links"] == links, f"{stats['program']} made {stats['links']} links, not {links}")
        if self.carrier == "rdma" and COUNTERS.exists():
            require(packets() > self.first_packets, "the RDMA device has sent nothing")

    def require_bytes(self, got, least):
        require(got >= least, f"the lane carried {got} bytes, not {least}")

    def keep_stacks(self):
        for program in self.programs[:4]:
            program.keep_stacks()

    def close(self):
        for program in self.programs:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
                program.process.kill()
                program.process.wait()
        self.while_it_lasts.close()

    @contextlib.contextmanager
    def removed_device(self, seconds=COMMAND_SECONDS):
        """The RDMA device is taken away, which comes to an end within this time, and put back."""
        if self.fabric:
            self.fabric.order("remove")
            eventually("nobody has the device", lambda: self.fabric.order("users") == 0, seconds)
        else:
            card = pathlib.Path("/sys/class/infiniband/rxe0/parent").read_text().strip()
            subprocess.run(["rdma", "link", "delete", "rxe0"], check=True, timeout=seconds)
        try:
            yield
        finally:
            if self.fabric:
                self.fabric.order("add")
            else:
                subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", card], check=True)
            self.first_packets = 0  # the new device counts anew
