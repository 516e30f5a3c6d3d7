"""Servers that spread their connections over processes, hand them to other programs, and give up privileges."""

import itertools
import os
import pathlib
import random
import re
import shutil
import signal

from lab import PORTS, eventually, require

CONNECTIONS = 3
MUCH = 1 << 18  # what programs/echoed.py sends on each connection once it is told to


class Clients:
    """programs/echoed.py: some connections, in the lane if that is to be so, until told to finish."""

    def __init__(self, lab, port, lane=True, connections=CONNECTIONS):
        self.lab, self.lane, self.connections = lab, lane, connections
        self.go = lab.folder / f"go-{len(lab.programs)}"
        self.program = lab.program("echoed.py", lab.address, port, connections, self.go, "lane" if lane else "any")
        self.program.await_words("in the lane" if lane and lab.lane != "tcp" else "begun", 30)

    def finish(self, stays=True, why=("peer-left",)):
        """Every byte was right, and took the way that it was to take. Unless it `stays`, that way was TCP in the end, for one of the
        reasons `why`, or any if there are none."""
        self.go.touch()
        require("every byte right" in self.program.finish(), self.program.end_of_output())
        stats = self.program.stats()
        if self.lane:
            self.lab.expect_lane(stats, bytes_each=self.connections * MUCH if stays else 1)
            require(stats["flows"][self.lab.carrier] == self.connections, f"not in the lane: {stats['flows']}")
            left = stats["fallback"]
            require(not left if stays else not why or (set(left) <= set(why) and sum(left.values()) == self.connections),
                    f"back on TCP: {left}")
        else:
            require(stats["flows"]["tcp"] == self.connections, f"not on TCP: {stats['flows']}")


def structure(lab, style, *more, **options):
    """A server, and its port."""
    port = next(PORTS)
    server = lab.start([lab.stage / "structures", style, lab.address, port, *more], name=style, **options)
    server.await_words("listening")
    return server, port


def carried_by(lab, server, count):
    """The processes of a server that carried connections are its children, and carried so many."""
    lines = server.all_stats()
    carried = {line["pid"]: line["flows"][lab.carrier] for line in lines if line["flows"][lab.carrier]}
    require(sum(carried.values()) == count and server.pid not in carried, f"who carried what: {carried}")


def in_children(style):
    """Each connection is carried by the process that uses it, after its parent has let it go."""
    def case(lab):
        server, port = structure(lab, style)
        for _ in range(2):
            Clients(lab, port).finish()
        server.terminate()
        carried_by(lab, server, 2 * CONNECTIONS)
    return case


def passed_on(lab):
    """Connections that are sent to another process stay on TCP."""
    server, port = structure(lab, "pass")
    for _ in range(2):
        Clients(lab, port, lane=False).finish()
    server.terminate()


def become(*program):
    """inetd's way: the connection is the standard streams of a program, which knows the library or does not."""
    def case(lab):
        server, port = structure(lab, "exec", *program)
        for _ in range(2):
            Clients(lab, port, lane=False).finish()
        server.terminate()
    return case


def open_device(lab):
    """Everybody may use the RDMA device, as rdma-core's udev rules have it (the virtual machine has none). The limits of a process that
    is to use it without privileges."""
    files = list(pathlib.Path("/dev/infiniband").glob("*"))
    for file in files:
        file.chmod(0o666)
    return {"memlock": "unlimited"} if lab.carrier == "rdma" and files else None


def drops_privileges(lab):
    """Over RDMA the kernel takes no commands any more from a process that opened the device as another user: it goes on over TCP."""
    restricted("setuid", lab.carrier == "shm", ())(lab)


def restricted(style, lane_after, why=("peer-left",)):
    """A process that gives up what it may do goes on with the connections that it has, and gets more: in the lane, or on TCP."""
    def case(lab):
        empty = lab.folder / "empty"
        empty.mkdir()
        server, port = structure(lab, style, empty, limits=open_device(lab))
        before = Clients(lab, port)
        server.process.send_signal(signal.SIGUSR1)
        server.await_words("restricted")
        Clients(lab, port, lane=lane_after).finish()
        before.finish(lane_after, why)
        server.terminate()
    return case


def detached(lab):
    """A server that goes to the background after it began to listen."""
    port = next(PORTS)
    server = lab.start([lab.stage / "structures", "detach", lab.address, port], name="detach")
    server.finish()
    eventually("the daemon listens", lambda: "listening" in server.out(), 30)
    pid = int(re.search(r"I am (\d+)", server.out()).group(1))
    try:
        Clients(lab, port).finish()
    finally:
        os.kill(pid, signal.SIGTERM)
    told = eventually("the daemon ends", lambda: [line for line in server.all_stats() if line["pid"] == pid])
    lab.expect_lane(*told, bytes_each=MUCH)


def starts_programs(lab):
    """In each way, in a process with many flows: what is started gets what the kernel alone would give it, and all flows stay in their
    lane but those that it was given."""
    flows, seconds = (1000, 1.5) if lab.carrier == "shm" else (100, 10)  # an emulated machine is slow
    told = {}
    for lane in "tcp", "lane":
        server, port = structure(lab, "alone", preload=lane == "lane")
        client = lab.start([lab.stage / "starts", lab.address, port, flows, seconds, lane], preload=lane == "lane")
        told[lane] = client.finish().splitlines()
        server.terminate()
    differing = next((lines for lines in itertools.zip_longest(told["tcp"], told["lane"]) if lines[0] != lines[1]), None)
    require(not differing, f"on the kernel, and in the lane: {differing}")
    stats = client.stats()
    lab.expect_lane(stats, bytes_each=flows * 64)
    # At the end those go to TCP that leaked to a program, one in ten: nobody knows whether it has them still. And two were given away.
    require(stats["flows"][lab.carrier] == flows and stats["fallback"] == {"shared": flows // 10 + 2},
            f"{stats['flows']} {stats['fallback']}")


# ---- Debian's servers


def listening(port):
    """Whether somebody does; nobody is asked, since a connection would count."""
    return f":{port:04X} " in "".join(line.split(" rem")[0] for line in listeners())


def listeners():
    with open("/proc/net/tcp", encoding="ascii") as table:
        return [words[1] + " " for words in map(str.split, table) if words[3] == "0A"]


def await_listener(server, port):
    eventually(f"{server.name} listens", lambda: server.process.poll() is None and listening(port), 20)


def socat(lab):
    """A child for each connection, which carries it and talks to a program through a socketpair."""
    port = next(PORTS)
    server = lab.start(["socat", f"TCP-LISTEN:{port},bind={lab.address},fork,reuseaddr", "EXEC:/bin/busybox cat"])
    await_listener(server, port)
    for _ in range(2):
        Clients(lab, port).finish()
    server.process.terminate()
    server.finish(status=128 + signal.SIGTERM)
    carried_by(lab, server, 2 * CONNECTIONS)


def inetd(lab):
    """The connection is the standard streams of a static program; inetd's child becomes another user, and closes all it has, before."""
    port = next(PORTS)
    conf = lab.folder / "inetd.conf"
    conf.write_text(f"{lab.address}:{port} stream tcp nowait nobody /bin/busybox busybox cat\n")
    server = lab.start(["inetd", "-i", conf])
    await_listener(server, port)
    for _ in range(2):
        Clients(lab, port, lane=False).finish()
    server.terminate()


def socket_activation(lab):
    """The listener is there before its program, which finds it as number 3, in systemd's way."""
    port = next(PORTS)
    server = lab.program("activated.py", lab.address, port)
    await_listener(server, port)
    for _ in range(2):
        Clients(lab, port).finish()
    server.process.terminate()
    server.finish(status=-signal.SIGTERM)


NGINX = """
env LD_PRELOAD; env RSOCK_CONFIG; env RSOCK_STATS_FILE; env RSOCK_LOG; env LD_LIBRARY_PATH;
daemon on; master_process on; worker_processes 2; pid {folder}/nginx.pid; error_log stderr; user nobody nogroup;
events {{}}
http {{
  access_log off; sendfile on; keepalive_requests 100000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  server {{ listen {address}:{port}; root {folder}/files; }}
}}
"""


def reload_nginx(master):
    """Other workers."""
    os.kill(master(), signal.SIGHUP)


def upgrade_nginx(master):
    """Another binary, which gets the listener, and what `env` names of the environment. Only a daemon has that done to it."""
    old = master()
    os.kill(old, signal.SIGUSR2)
    eventually("the new one is there", lambda: master() not in (0, old), 30)
    os.kill(old, signal.SIGQUIT)


def nginx(replace):
    """A master that binds, and workers of another user that accept; they are replaced while connections are open."""
    def case(lab):
        port = next(PORTS)
        files = lab.folder / "files"
        files.mkdir()
        files.chmod(0o755)
        for size in 1, 1000, 300000:
            (files / str(size)).write_bytes(random.Random(size).randbytes(size))
        conf, pid_file = lab.folder / "nginx.conf", lab.folder / "nginx.pid"
        conf.write_text(NGINX.format(folder=lab.folder, address=lab.address, port=port))
        # The workers, who are nobody, append to the statistics that the first process has begun.
        server = lab.start([shutil.which("nginx"), "-c", conf], name="nginx",
                           wrap=["sh", "-c", 'umask 0; exec "$@"', "sh"])
        server.finish()

        def master():
            try:
                return int(pid_file.read_text() or 0)
            except FileNotFoundError:  # the old one moves its own out of the way at any time
                return 0

        eventually("the daemon is there", master, 30)
        first = master()
        try:
            eventually("it listens", lambda: listening(port), 20)
            client = lab.program("fetched.py", lab.address, port, files, lab.folder / "go")
            client.await_words("in the lane" if lab.lane != "tcp" else "begun", 30)
            replace(master)
            client.await_words("again", 30)
            (lab.folder / "go").touch()
            require("every byte right" in client.finish(), client.end_of_output())
            lab.expect_lane(client.stats(), bytes_each=300000)
            os.kill(master(), signal.SIGQUIT)
            eventually("all have ended", lambda: not any_of_group(first), 60)
        finally:
            if any_of_group(first):
                os.killpg(first, signal.SIGKILL)
        carried_by(lab, server, client.stats()["flows"][lab.carrier])

    return case


def any_of_group(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def memcached(lab):
    """It becomes another user before it serves."""
    port = next(PORTS)
    server = lab.start(["memcached", "-u", "nobody", "-l", lab.address, "-p", port, "-U", "0", "-t", "2"],
                       limits=open_device(lab))
    await_listener(server, port)
    client = lab.program("cached.py", lab.address, port)
    require("every byte right" in client.finish(), client.end_of_output())
    lab.expect_lane(client.stats(), bytes_each=10000)
    server.terminate()


CASES = {
    "socat": socat,
    "inetd": inetd,
    "socket_activation": socket_activation,
    "nginx": nginx(reload_nginx),
    "nginx_upgrade": nginx(upgrade_nginx),
    "memcached": memcached,
    "prefork": in_children("prefork"),
    "fork_per_connection": in_children("fork"),
    "passed_on": passed_on,
    "exec_preloaded": become("cat"),
    "exec_static": become("/bin/busybox", "cat"),
    "drops_privileges": drops_privileges,
    "changes_root": restricted("chroot", True),
    "filter_refuses": restricted("refuse", False),
    "filter_kills": restricted("kill", False),
    "detached": detached,
    "starts_programs": starts_programs,
}
