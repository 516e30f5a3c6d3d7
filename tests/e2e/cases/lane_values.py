"""Bytes that come back as they went."""

MIB = 1 << 20


def values(way):
    def case(lab):
        server = lab.redis()
        client = lab.program("values.py", lab.address, server.port, way)
        client.finish(300)
        lab.expect_lane(lab.stop(server), client.stats(), bytes_each=80 * MIB)
    return case


CASES = {f"values_{way}": values(way) for way in ("blocking", "epoll", "poll", "select")}
