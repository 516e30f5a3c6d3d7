"""Redis's programs, preloaded or not, and what tells afterwards how their bytes travelled."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import time

START_SECONDS = 30
RUN_SECONDS = 120  # one client; longer means that something hangs
ROUND_TRIPS, WARM_UP_MS = 1000, 200


class Failed(Exception):
    """Ends the example, with this message."""


@dataclasses.dataclass
class Statistics:
    """What one preloaded process left in its RSOCK_STATS_FILE."""
    flows: dict
    bytes_in: dict
    bytes_out: dict
    fallback: dict

    @staticmethod
    def read(path):
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) != 1:
            raise Failed(f"a preloaded program left {len(lines)} lines of statistics instead of one: was librsock.so "
                         "loaded, and did it end in order?")
        line = json.loads(lines[0])
        return Statistics(*(line[field.name] for field in dataclasses.fields(Statistics)))

    def share(self, lane):
        """Of all bytes of selected flows, those that the lane carried."""
        total = sum(self.bytes_in.values()) + sum(self.bytes_out.values())
        return (self.bytes_in[lane] + self.bytes_out[lane]) / total if total else 0.0


class Programs:
    """Starts programs with their files in one folder, and leaves none running."""

    def __init__(self, library, config, folder):
        self.library, self.config, self.folder = library, config, folder

    def environment(self, statistics):
        env = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "RSOCK_RULES")}
        if statistics:
            statistics.unlink(missing_ok=True)
            env |= {"LD_PRELOAD": str(self.library), "RSOCK_CONFIG": str(self.config),
                    "RSOCK_STATS_FILE": str(statistics)}
        return env

    @contextlib.contextmanager
    def server(self, name, address, port, statistics=None):
        """redis-server, preloaded when it shall leave `statistics`. It must end in order when asked to."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise Failed(f"port {port} of {address} cannot be had ({error.strerror}): choose another with "
                             "--port") from None
        log = self.folder / f"{name}.log"
        command = ["redis-server", "--port", str(port), "--bind", address, "--protected-mode", "no", "--save", "",
                   "--appendonly", "no", "--dir", str(self.folder), "--daemonize", "no"]
        with open(log, "wb") as out:
            process = subprocess.Popen(command, env=self.environment(statistics), stdout=out, stderr=out)
        try:
            # It is not asked by connecting: a plain client would be remembered as one for a while.
            deadline = time.monotonic() + START_SECONDS
            while b"Ready to accept connections" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{name}: redis-server did not start: see {log.name}")
                time.sleep(0.05)
            yield
            if process.poll() is not None:
                raise Failed(f"{name}: redis-server ended by itself, with status {process.returncode}: see {log.name}")
            process.terminate()
            try:
                status = process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failed(f"{name}: redis-server does not end when told to") from None
            if status != 0:
                raise Failed(f"{name}: redis-server ended with status {status}: see {log.name}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def client(self, command, statistics=None, feed=()):
        """What it printed. Its input are the lines of `feed`, each when it is there."""
        shown = " ".join(map(str, command))
        process = subprocess.Popen(list(map(str, command)), env=self.environment(statistics), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for line in feed:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            out, _ = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"still running after {RUN_SECONDS} s: {shown}") from None
        except BrokenPipeError:
            out = process.stdout.read()
            raise Failed(f"ended early: {shown}: {out[-500:]}") from None
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise Failed(f"ended with status {process.returncode}: {shown}: {out[-500:]}")
        return out

    def round_trip(self, program, address, port, size):
        """The median time of a round trip in microseconds, of a program of tests/bench that knows of no librsock."""
        path = self.folder / program
        server = subprocess.Popen([path, "server", address, str(port), str(size)], env=self.environment(None),
                                  stdout=subprocess.PIPE, text=True)
        try:
            if server.stdout.readline().strip() != "listening":
                raise Failed(f"{program} did not start")
            out = self.client([path, "client", address, port, size, ROUND_TRIPS, WARM_UP_MS])
            if server.wait(START_SECONDS) != 0:
                raise Failed(f"{program}: the server ended with status {server.returncode}")
        except subprocess.TimeoutExpired:
            raise Failed(f"{program}: the server did not end") from None
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
        return json.loads(out)["median_us"]


class Memory:
    """What stands for the device over shared memory: there is nothing to count."""

    name = "shared memory"
    emulated = False

    def packets(self):
        return {"sent": 0, "received": 0}


class Device:
    """The RDMA device that serves an address, and its packet counters."""

    PAIRS = (("hw_counters", "sent_pkts", "rcvd_pkts"), ("counters", "port_xmit_packets", "port_rcv_packets"))

    def __init__(self, address):
        said = subprocess.run(["ip", "-4", "-o", "address", "show", "to", address], capture_output=True, text=True)
        card = said.stdout.split()[1] if said.stdout else None
        for port in sorted(pathlib.Path("/sys/class/infiniband").glob("*/ports/*")):
            for pair in self.PAIRS:
                if card in self.cards(port) and (port / pair[0] / pair[1]).exists():
                    self.name, self.port, self.pair = port.parts[-3], port, pair
                    # Soft-RoCE alone names the card that it uses.
                    self.emulated = (port.parents[1] / "parent").exists()
                    return
        raise Failed(f"no RDMA device with packet counters serves {address}")

    @staticmethod
    def cards(port):
        for gid in (port / "gid_attrs/ndevs").iterdir():
            with contextlib.suppress(OSError):  # EINVAL for an entry that is not in use
                yield gid.read_text().strip()

    def packets(self):
        folder, sent, received = self.pair
        return {"sent": int((self.port / folder / sent).read_text()),
                "received": int((self.port / folder / received).read_text())}
