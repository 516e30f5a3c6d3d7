"""What Redis is used for, by clients whose connections are in their lane."""

LEAST_BYTES = {"pipeline": 500000, "publish": 100000, "blocking_pops": 2000, "transactions": 10000, "scripts": 500000,
               "large_replies": 1 << 20, "slow_reader": 1 << 20}


def command(name):
    def case(lab):
        server = lab.redis()
        client = lab.program("commands.py", name, lab.address, server.port)
        client.finish()
        served = lab.stop(server)
        least = LEAST_BYTES[name]
        lab.expect_lane(served, client.stats(), bytes_each=min(least, 20000), links=1)
        both = served["bytes_in"][lab.carrier] + client.stats()["bytes_in"][lab.carrier]
        lab.require_bytes(both, least)
    return case


CASES = {name: command(name) for name in LEAST_BYTES}
