"""values.py HOST PORT WAY [lane|any [SIZE,...]]: writes values of many sizes and reads them back, byte for byte.

WAY is blocking, epoll, poll or select. With `any`, the connection need not be in its lane."""

import os
import selectors
import sys

import resp

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, 2, 63, 64, 65, 4095, 4096, 4097, 16383, 16384, 16385, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1,
         MIB, 16 * MIB, 64 * MIB]
SELECTORS = {"epoll": selectors.EpollSelector, "poll": selectors.PollSelector, "select": selectors.SelectSelector}


def asking(host, port, way, lane):
    """A function that sends one command and gives its reply."""
    if way == "blocking":
        return resp.connect(host, port, lane == "lane").ask
    loop = resp.Loop(SELECTORS[way])
    loop.connect(host, port)
    if lane == "lane":
        loop.enter_lane()
    return lambda *words: loop.ask_all(lambda i: words)[0]


def main(host, port, way, lane="lane", sizes=""):
    ask = asking(host, port, way, lane)
    for size in map(int, sizes.split(",")) if sizes else SIZES:
        value = os.urandom(size)
        key = f"value:{way}:{size}"
        assert ask("SET", key, value) == b"OK"
        assert ask("STRLEN", key) == size
        got = ask("GET", key)
        assert len(got) == size, f"{size} B came back as {len(got)}"
        if got != value:
            at = next(i for i in range(size) if got[i] != value[i])
            raise AssertionError(f"{size} B differ from offset {at} on")
        assert ask("DEL", key) == 1
        print(f"{size} B are the same", flush=True)


main(*sys.argv[1:])
