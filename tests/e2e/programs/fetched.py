"""fetched.py HOST PORT FOLDER FILE: gets the files of FOLDER by HTTP/1.1, over and over, from connections that are kept, and makes a
new one in the place of one that the server closes between two answers.

Says "begun" when it got each file on each of two connections, "in the lane" when both are there, and "again" when connections that
the server closed are replaced by such that are there, too. Ends when FILE is there."""

import http.client
import os
import sys

import resp


class Getter:
    def __init__(self, host, port):
        self.address, self.made = (host, int(port)), 0
        self.make()

    def make(self):
        self.connection = http.client.HTTPConnection(*self.address)
        self.connection.connect()
        self.made += 1

    def get(self, name):
        for _ in range(2):
            try:
                self.connection.request("GET", f"/{name}")
                answer = self.connection.getresponse()
                assert answer.status == 200, answer.status
                return answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.make()
        raise AssertionError("no answer")


def main(host, port, folder, file):
    wanted = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as content:
            wanted[name] = content.read()
    getters = [Getter(host, port) for _ in range(2)]
    said = set()
    while not os.path.exists(file):
        for getter in getters:
            for name, content in wanted.items():
                assert getter.get(name) == content, "wrong bytes"
        # Without a socket: the last answer was the last of its connection.
        in_lane = all(getter.connection.sock and resp.in_lane(getter.connection.sock) for getter in getters)
        for word, true in ("begun", True), ("in the lane", in_lane), ("again", in_lane and all(g.made > 1 for g in getters)):
            if true and word not in said:
                print(word, flush=True)
                said.add(word)
    print("every byte right", flush=True)


main(*sys.argv[1:])
