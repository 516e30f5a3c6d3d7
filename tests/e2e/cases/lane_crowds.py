"""Many connections, many processes."""

from lab import require


def crowd(connections, rounds, least):
    """One process; however many connections it has, they share one link."""
    def case(lab):
        server = lab.redis()
        client = lab.program("crowd.py", lab.address, server.port, connections, rounds)
        client.finish()
        took, served = client.stats(), lab.stop(server)
        lab.expect_lane(served, took, bytes_each=least, links=1)
        require(took["flows"][lab.carrier] == connections, f"{took['flows']} of {connections} connections")
    return case


def processes(count):
    def case(lab):
        server = lab.redis()
        clients = [lab.program("crowd.py", lab.address, server.port, 1, 50) for _ in range(count)]
        for client in clients:
            client.finish(300)
        served = lab.stop(server)
        lab.expect_lane(served, *(client.stats() for client in clients), bytes_each=20000)
        require(served["flows"][lab.carrier] == count, f"server: {served['flows']}")
        require(served["links"] <= count, f"server: {served['links']} links for {count} processes")
    return case


def benchmark(clients, requests, *more):
    """redis-benchmark, which ends connections while others still enter."""
    def case(lab):
        server = lab.redis()
        client = lab.start(["redis-benchmark", "-h", lab.address, "-p", server.port, "-t", "set,get,lrange_100", "-n", requests,
                            "-c", clients, "-d", 100, "-q", *more])
        client.finish(400)
        took, served = client.stats(), lab.stop(server)
        lab.expect_lane(served, took, bytes_each=100000, links=1)
        require("SET:" in client.out() and "GET:" in client.out(), f"no figures: {client.end_of_output()}")
    return case


def benchmark_threads(lab):
    server = lab.redis("--io-threads", "2", "--io-threads-do-reads", "yes")
    client = lab.start(["redis-benchmark", "-h", lab.address, "-p", server.port, "-t", "set,get", "-n", 20000, "-c", 40, "-q",
                        "--threads", 2, "-P", 4])
    client.finish(400)
    lab.expect_lane(lab.stop(server), client.stats(), bytes_each=100000)


def unselected_is_untouched(lab):
    """A preloaded client with connections to a port that no rule names, beside some that one does."""
    server = lab.redis()
    other = lab.redis(port=7950)
    client = lab.program("crowd.py", lab.address, other.port, 20, 5, "any")
    client.finish()
    stats = client.stats()
    require(sum(stats["flows"].values()) == 0 and not stats["fallback"], f"not selected, but counted: {stats}")
    require(sum(lab.stop(other)["flows"].values()) == 0, "the server counted flows that no rule selects")
    client = lab.program("crowd.py", lab.address, server.port, 2, 2)
    client.finish()
    lab.expect_lane(lab.stop(server), client.stats())


CASES = {
    "crowd_of_50": crowd(50, 10, 500000),
    "crowd_of_200": crowd(200, 10, 2000000),
    "six_processes": processes(6),
    "forty_processes": processes(40),
    "benchmark_50": benchmark(50, 4000),
    "benchmark_200_pipelined": benchmark(200, 8000, "-P", 16),
    "benchmark_threads": benchmark_threads,
    "unselected_is_untouched": unselected_is_untouched,
}
