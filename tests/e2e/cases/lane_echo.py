"""The echo example, whose client checks every byte; and epoll's two ways to report."""

from lab import PORTS, require


def echo(connections, messages, size, inflight):
    def case(lab):
        port = next(PORTS)
        server = lab.start([lab.stage / "echo_server", lab.address, port])
        server.await_words("listening")
        client = lab.start([lab.stage / "echo_client", lab.address, port, connections, messages, size, inflight])
        client.finish()
        took, served = client.stats(), lab.stop(server)
        carried = connections * messages * size
        lab.expect_lane(served, took, bytes_each=carried // 4, links=1)
        require(sum(took["bytes_in"].values()) == carried, f"{took['bytes_in']}, not {carried}")
    return case


def edge_triggered(lab):
    """A client that reads until EAGAIN and then only when told, with EPOLLET and EPOLLONESHOT."""
    server = lab.redis()
    client = lab.program("edges.py", lab.address, server.port)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats(), bytes_each=100000)


CASES = {
    "echo_small": echo(10, 2000, 64, 4),
    "echo_large": echo(4, 100, 100000, 2),
    "echo_many": echo(100, 100, 1000, 1),
    "edge_triggered": edge_triggered,
}
