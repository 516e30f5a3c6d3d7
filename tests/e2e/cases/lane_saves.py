"""Redis forks to save: the parent's connections stay in their lane, and what it saves is right."""

from lab import eventually, has_lane, require

KEYS = 20000


def fill(lab, server):
    for start in range(0, KEYS, 5000):
        lab.ask(server, "EVAL", "for i = ARGV[1], ARGV[1] + 4999 do redis.call('SET', 'key:' .. i, string.rep(i, 50)) end", 0, start)


def idle(lab, server):
    told = lab.ask(server, "INFO", "persistence")
    return "rdb_bgsave_in_progress:0" in told and "aof_rewrite_in_progress:0" in told and "aof_rewrite_scheduled:0" in told


def saving(command, settings, done):
    def case(lab):
        server = lab.redis(*settings)
        fill(lab, server)
        load = lab.program("steady.py", lab.address, server.port, 10)
        load.await_words("ready")
        for turn in range(3):
            lab.ask(server, command)
            eventually(f"{command} ends", lambda: idle(lab, server), 60)
            require(done in lab.ask(server, "INFO", "persistence"), f"{command} failed: {server.end_of_output()}")
        load.process.terminate()
        counted = int(load.finish().split()[-1])
        require(counted > 100, f"the clients were served only {counted} times")
        wanted = lab.ask(server, "DBSIZE"), lab.ask(server, "GET", "key:777")
        lab.ask(server, command)
        eventually(f"{command} ends", lambda: idle(lab, server), 60)
        served, took = lab.stop(server), load.stats()
        lab.expect_lane(served, took, bytes_each=2000)
        for stats in served, took:
            require(stats["flows"][lab.carrier] == 10 and not stats["fallback"], f"{stats['program']}: {stats['flows']} {stats['fallback']}")
        require(not any(has_lane(line) for line in server.all_stats() if line["pid"] != served["pid"]), "a child had a lane")
        again = lab.redis("--dbfilename", "dump.rdb", *settings, preload=False, port=server.port)
        got = lab.ask(again, "DBSIZE"), lab.ask(again, "GET", "key:777")
        require(got == wanted and wanted[1] == "777" * 50, f"what was saved differs: {got[0]} keys, not {wanted[0]}")
    return case


CASES = {
    "bgsave": saving("BGSAVE", (), "rdb_last_bgsave_status:ok"),
    "bgrewriteaof": saving("BGREWRITEAOF", ("--appendonly", "yes"), "aof_last_bgrewrite_status:ok"),
}
