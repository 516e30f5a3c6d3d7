"""commands.py NAME HOST PORT: one kind of use that Redis is put to, over connections in their lane."""

import os
import sys
import threading
import time

import resp

KIB, MIB = 1 << 10, 1 << 20


def pipeline(connect):
    """10 000 commands in one go, sent by one thread while another takes the replies."""
    client = connect()
    count = 10000
    commands = b"".join(resp.encode("SET", f"pipe:{i}", f"value-{i}") + resp.encode("GET", f"pipe:{i}") for i in range(count // 2))
    sender = threading.Thread(target=client.sock.sendall, args=(commands,))
    sender.start()
    for i in range(count // 2):
        assert client.receive() == b"OK"
        assert client.receive() == b"value-%d" % i, i
    sender.join()
    client.sock.sendall(commands)  # and by one thread: Redis keeps the replies meanwhile
    for i in range(count // 2):
        assert client.receive() == b"OK"
        assert client.receive() == b"value-%d" % i, i
    client.send("INCRBY", "big", 1)
    client.sock.sendall(b"".join(resp.encode("APPEND", "log", "x" * 100) for _ in range(count)))
    assert client.receive() == 1
    assert [client.receive() for _ in range(count)] == [100 * (i + 1) for i in range(count)]


def publish(connect):
    subscribers, publisher = [connect(), connect()], connect()
    for subscriber in subscribers:
        assert subscriber.ask("SUBSCRIBE", "news")[2] == 1
    assert subscribers[0].ask("PSUBSCRIBE", "ot*")[0] == b"psubscribe"
    messages = [os.urandom(size) for size in (1, 10, 1000, 100 * KIB)] + [b"m%d" % i for i in range(1000)]
    for message in messages:
        assert publisher.ask("PUBLISH", "news", message) == 2
    assert publisher.ask("PUBLISH", "other", "pattern") == 1
    for subscriber in subscribers:
        for message in messages:
            assert subscriber.receive() == [b"message", b"news", message]
    assert subscribers[0].receive() == [b"pmessage", b"ot*", b"other", b"pattern"]


def blocking_pops(connect):
    waiting, other = connect(), connect()
    waiting.send("BLPOP", "list", 0)
    time.sleep(0.3)  # it sleeps by then, or is woken early, which is right as well
    assert other.ask("RPUSH", "list", "first") == 1
    assert waiting.receive() == [b"list", b"first"]
    for round in range(200):  # woken at once, or while falling asleep
        waiting.send("BLPOP", "list", 30)
        other.ask("RPUSH", "list", round)
        assert waiting.receive() == [b"list", b"%d" % round]
    for timeout in (0.1, 1.0, 1.5):
        begin = time.monotonic()
        assert waiting.ask("BLPOP", "nothing", timeout) is None
        took = time.monotonic() - begin
        assert timeout - 0.01 <= took < timeout + 2, f"a time-out of {timeout} s took {took:.3f} s"
    assert other.ask("RPUSH", "source", "moved") == 1
    assert waiting.ask("BLMOVE", "source", "target", "LEFT", "RIGHT", 5) == b"moved"
    third = connect()
    waiting.send("BLPOP", "fair", 30)
    third.send("BRPOP", "fair", 30)
    assert other.ask("RPUSH", "fair", "a", "b") == 2
    assert {waiting.receive()[1], third.receive()[1]} == {b"a", b"b"}


def transactions(connect):
    one, two = connect(), connect()
    assert one.ask("MULTI") == b"OK"
    for _ in range(1000):
        assert one.ask("INCR", "counter") == b"QUEUED"
    assert two.ask("GET", "counter") is None
    assert one.ask("EXEC") == list(range(1, 1001))
    assert two.ask("WATCH", "counter") == b"OK"
    assert one.ask("INCR", "counter") == 1001
    assert two.ask("MULTI") == b"OK" and two.ask("SET", "counter", "lost") == b"QUEUED"
    assert two.ask("EXEC") is None


def scripts(connect):
    client = connect()
    assert client.ask("EVAL", "return {1, 'two', {redis.call('SET', KEYS[1], ARGV[1]).ok}}", 1, "k", "v") == [1, b"two", [b"OK"]]
    assert client.ask("EVAL", "return string.rep('x', 3000000)", 0) == b"x" * 3000000
    assert client.ask("EVAL", "local t = {} for i = 1, 100000 do t[i] = i end return t", 0) == list(range(1, 100001))
    assert client.ask("EVAL", "return #ARGV[1]", 0, b"y" * (2 * MIB)) == 2 * MIB
    try:
        client.ask("EVAL", "error('on purpose')", 0)
    except resp.RedisError as error:
        assert "on purpose" in str(error)
    else:
        raise AssertionError("no error")


def large_replies(connect):
    client = connect()
    values = {f"m:{i}": os.urandom(37 * i % 5000 + i) for i in range(2000)}
    assert client.ask("MSET", *(word for pair in values.items() for word in pair)) == b"OK"
    for _ in range(3):
        assert client.ask("MGET", *values) == list(values.values())
    assert client.ask("SET", "half", os.urandom(MIB)) == b"OK"
    half = client.ask("GET", "half")
    assert client.ask("MGET", *["half"] * 24) == [half] * 24


def slow_reader(connect):
    """The server has 24 MiB to say to a client that takes a little at a time; others are served meanwhile."""
    slow, other = connect(), connect()
    value = os.urandom(MIB)
    assert slow.ask("SET", "value", value) == b"OK"
    for _ in range(24):
        slow.send("GET", "value")
    answered = 0
    parser_limit = time.monotonic() + 150
    while answered < 24:
        assert time.monotonic() < parser_limit
        slow.parser.feed(slow.sock.recv(20000))
        if len(slow.parser.replies) > answered:
            answered = len(slow.parser.replies)
            assert other.ask("PING") == b"PONG"
            time.sleep(0.01)
    assert all(reply == value for reply in slow.parser.replies)


def main(name, host, port):
    {"pipeline": pipeline, "publish": publish, "blocking_pops": blocking_pops, "transactions": transactions,
     "scripts": scripts, "large_replies": large_replies, "slow_reader": slow_reader}[name](lambda: resp.connect(host, port))


main(*sys.argv[1:])
