# SPDX-License-Identifier: BSD-3-Clause
"""block.py: contest 1: vhost-user-blk back ends under the same client (tests/bench/blk_client.c)."""

import os
import subprocess
import time

from contest import (OURS, Contest, NotHere, at_least, better_than_peer, cpu_seconds, need_program, output,
                     profile, times_the_peer)

SIZE = 1 << 30
FILE_SIZE = 256 << 20
QUEUES = 4
PEER = "qemu-storage-daemon"
LEAVES = f"{PEER}, reads left undone"
SHAPES = (("depth 1", 1, 1, 1.1), ("depth 32", 1, 32, 1.5), ("4 jobs × 32", 4, 32, 1.5))
WORK = (("read", "random read"), ("write", "random write"))
POLL_TARGET = 600000


def null_node(zeroes):
    return ["--blockdev", f"null-co,node-name=disk,size={SIZE},read-zeroes={zeroes}"]


def file_node(path, engine):
    return ["--blockdev", f"file,node-name=disk,filename={path},aio={engine},locking=off"]


class Server:
    """A back end that serves until it is stopped; clients come and go."""

    def __init__(self, bench, name, make_command):
        self.name = name
        self.bench = bench
        self.socket = bench.folder / f"block-{len(bench.processes)}.sock"
        self.process = bench.start(make_command(self.socket))
        bench.wait_socket(self.process, self.socket)

    def client(self, jobs, depth, work, seconds, polling):
        command = [self.bench.program("blk_client"), "--socket", self.socket, "--jobs", jobs,
                   "--depth", depth, "--rw", work, "--seconds", seconds, "--warmup", 0]
        return [str(word) for word in command] + (["--poll"] if polling else [])

    def measure(self, jobs, depth, work, seconds, polling=False):
        """(IOPS, µs of the server's processor time a request)"""
        before = cpu_seconds(self.process.pid)
        said = output(self.client(jobs, depth, work, seconds, polling))
        taken = cpu_seconds(self.process.pid) - before
        figures = dict(word.split("=") for word in said.split())
        return float(figures["iops"]), taken * 1e6 / float(figures["requests"])

    def profile(self, jobs, depth, work, polling=False):
        """Where it spends its time under that load."""
        client = subprocess.Popen(self.client(jobs, depth, work, 2, polling),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        text = profile(self.process.pid)
        client.wait()
        return text

    def stop(self):
        self.bench.stop(self.process)


def tenon(bench, path, options=""):
    return lambda socket: [bench.tenon, "serve", "-s", f"virtio-blk,{path},queues={QUEUES}{options}",
                           "--socket", socket]


def daemon(node, poll_ns=None):
    thread = "iothread,id=thread" + (f",poll-max-ns={poll_ns}" if poll_ns else "")
    return lambda socket: [PEER, "--object", thread, *node,
                           "--export", f"type=vhost-user-blk,id=export,node-name=disk,writable=on,"
                           f"addr.type=unix,addr.path={socket},num-queues={QUEUES},iothread=thread"]


def start(bench, rows, commands):
    """The servers that can run here; what cannot says so in its column."""
    servers = {}
    for name, command in commands.items():
        try:
            servers[name] = Server(bench, name, command)
        except (NotHere, OSError) as reason:
            if name == OURS:
                raise
            for row in rows:
                row.lacks(name, str(reason))
    return servers


def race(bench, contest, title, commands, aside=()):
    """All kinds of work on one kind of disk: IOPS, and processor time beside them."""
    speeds = contest.table(f"{title}: IOPS")
    costs = contest.table(f"{title}: processor time of the back end a request")
    work = [(f"{name}, {shape}", jobs, depth, rw, speeds.row(f"{title}: {name}, {shape}", "IOPS",
                                                             target=times_the_peer(factor)),
             costs.row(f"{title}: {name}, {shape}, processor time", "µs", more=False, target=better_than_peer()))
            for rw, name in WORK for shape, jobs, depth, factor in SHAPES]
    for *_, speed, cost in work:
        speed.aside = cost.aside = set(aside)
    servers = start(bench, speeds.rows + costs.rows, commands)
    for _, jobs, depth, rw, speed, cost in work:
        def measure(name):
            iops, spent = servers[name].measure(jobs, depth, rw, bench.seconds)
            speed.add(name, iops)
            cost.add(name, spent)

        bench.alternate(list(servers), measure)
        if False in (speed.reached(), cost.reached()):
            (speed if speed.reached() is False else cost).profile = \
                servers[OURS].profile(jobs, depth, rw)
    for server in servers.values():
        server.stop()


def race_polling(bench, contest):
    """Nobody sleeps: the device looks at its rings, the client at what was used."""
    table = contest.table("Polling on both sides, null disk, depth 32: IOPS")
    servers = start(bench, [], {OURS: tenon(bench, "null:1G", ",poll=on"),
                                PEER: daemon(null_node("on"), 1000000)})
    for rw, name in WORK:
        row = table.row(f"polling: {name}, depth 32", "IOPS", target=at_least(POLL_TARGET, "600 k"))
        bench.alternate(list(servers), lambda side: row.add(
            side, servers[side].measure(1, 32, rw, bench.seconds, True)[0]))
        if row.reached() is False:
            row.profile = servers[OURS].profile(1, 32, rw, True)
    for server in servers.values():
        server.stop()


def run(bench):
    contest = Contest(
        1, "vhost-user-blk",
        "A client that does nothing but requests of 4 KiB at random places, from one queue a job, with "
        "EVENT_IDX, asleep when it has nothing to do. `tenon serve` and qemu-storage-daemon (one "
        "iothread, its best here) serve it in turn; each serves a null disk, then a file on tmpfs "
        "through the page cache. tenon's null disk fills what is read with zeroes, so it is compared "
        "with null-co,read-zeroes=on; what null-co does when it leaves the reader's buffer as it was "
        "stands beside. For the file the daemon has its pool of threads or io_uring, and the better "
        "one counts. Processor time is user and system time of the back end, kernel threads that work "
        "for it left out.",
        "Client and back end share the machine's processors, so a back end that takes less of them "
        "gives the client more. tmpfs never waits for a device.")
    need_program(PEER, "qemu-system-common")
    race(bench, contest, "null disk",
         {OURS: tenon(bench, "null:1G"), PEER: daemon(null_node("on")),
          LEAVES: daemon(null_node("off"))}, [LEAVES])
    image = "/dev/shm" if os.path.isdir("/dev/shm") else str(bench.folder)
    image = f"{image}/tenon-bench-{os.getpid()}.img"
    try:
        with open(image, "wb") as file:
            for _ in range(FILE_SIZE >> 20):
                file.write(os.urandom(1 << 20))
        race(bench, contest, "tmpfs file",
             {OURS: tenon(bench, image), f"{PEER}, threads": daemon(file_node(image, "threads")),
              f"{PEER}, io_uring": daemon(file_node(image, "io_uring"))})
    finally:
        os.unlink(image)
    race_polling(bench, contest)
    return contest
