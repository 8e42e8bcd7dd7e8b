# SPDX-License-Identifier: BSD-3-Clause
"""ring.py: contest 2: what a ring costs the device: by itself, and in packets a second beside DPDK's vhost."""

import os
import re
import select
import signal
import subprocess
import time

from contest import OURS, Contest, NotHere, need_program, output, profile, times_the_peer

PEER = "DPDK vhost"
FORMATS = {"split": "", "packed": ",packed_vq=1"}
RING = 256
FRAME = 64
SETTLE = 0.3
# The front end forwards on processor 1, who serves it works on processor 0.
FRONT_CPUS = ["-l", "0,1", "--main-lcore=0"]
BACK_CPUS = ["-l", "0,1", "--main-lcore=1"]


class Testpmd:
    """DPDK's packet generator at its prompt. Without hardware: --no-pci is what keeps it off this machine's cards."""

    def __init__(self, bench, name, cpus, device):
        self.log = open(bench.folder / f"testpmd-{name}", "wb")
        command = ["dpdk-testpmd", *cpus, "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
                   f"--file-prefix=bench-{os.getpid()}-{name}", f"--vdev={device}", "--", "-i",
                   "--nb-cores=1", f"--txd={RING}", f"--rxd={RING}", "--burst=32",
                   "--total-num-mbufs=16384"]
        # A terminal, since it keeps what it writes to a pipe to itself for long.
        self.terminal, terminal = os.openpty()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal,
                                        stderr=terminal, bufsize=0)
        os.close(terminal)
        bench.processes.append(self.process)
        self.process.log = self.log
        self.packets("TX", 20)

    def read(self, patience):
        """A piece of what it says, empty after @patience seconds or if it ended."""
        if not select.select([self.terminal], [], [], patience)[0]:
            return b""
        try:
            return os.read(self.terminal, 1 << 16)
        except OSError:
            return b""

    def do(self, *commands):
        """They are carried out in order; packets() waits until they are."""
        self.process.stdin.write("".join(command + "\n" for command in commands).encode())

    def packets(self, counter, patience=10):
        """How many the port's counter ("TX", "RX") says."""
        deadline = time.monotonic() + patience
        text = ""
        self.do("show port stats 0")
        while not re.search(r"Tx-pps.*\n\s*####", text):
            left = max(0, deadline - time.monotonic())
            piece = self.read(left)
            if not piece:
                said = [line for line in text.splitlines() if line.strip()]
                raise NotHere(f"testpmd gave up: {said[-1] if said else 'silence'}")
            self.log.write(piece)
            text += piece.decode(errors="replace")
        found = re.search(rf"NIC statistics.*?{counter}-packets: (\d+)", text, re.S)
        return int(found[1])

    def rate(self, counter, seconds):
        """Packets a second by the port's counter ("TX", "RX") while it forwards."""
        time.sleep(SETTLE)
        first, begin = self.packets(counter), time.monotonic()
        time.sleep(seconds)
        last, end = self.packets(counter), time.monotonic()
        return (last - first) / (end - begin)

    def end(self):
        try:
            self.do("stop", "quit")
            self.process.wait(2)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.terminal)


def front_end(bench, side, form, socket):
    return Testpmd(bench, f"front-{side}-{form}", FRONT_CPUS,
                   f"net_virtio_user0,path={socket},queues=1,queue_size={RING},mrg_rxbuf=0,in_order=0"
                   + FORMATS[form])


class Pair:
    """A back end and the testpmd that drives it; quiet() while it is the others' turn."""

    def measure(self, direction, seconds):
        self.wake()
        mode, counter = ("txonly", "TX") if direction == "out" else ("rxonly", "RX")
        self.begin("rxonly" if direction == "out" else "txonly")
        self.front.do(f"set fwd {mode}", "start")
        rate = self.front.rate(counter, seconds)
        self.front.do("stop")
        self.quiet()
        return rate

    def end(self):
        self.front.end()


class TenonPair(Pair):
    """tenon polls always, so it is stopped while it is the others' turn."""

    def __init__(self, bench, form):
        socket = bench.folder / f"net-{form}.sock"
        self.process = bench.start(
            [bench.tenon, "serve", "--iothread", "net,cpus=0", "-s",
             f"virtio-net,backend=null,rx={FRAME},packed=on,poll=on,iothread=net,mrg_rxbuf=off",
             "--socket", socket])
        self.bench = bench
        bench.wait_socket(self.process, socket)
        self.front = front_end(bench, "tenon", form, socket)
        self.quiet()

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def quiet(self):
        self.process.send_signal(signal.SIGSTOP)

    def begin(self, mode):
        """It always takes what comes, and has frames for whoever wants them."""

    def profile(self, direction):
        self.wake()
        self.front.do(f"set fwd {'txonly' if direction == 'out' else 'rxonly'}", "start")
        time.sleep(SETTLE)
        text = profile(self.process.pid)
        self.front.do("stop")
        self.quiet()
        return text

    def end(self):
        self.wake()
        super().end()
        self.bench.stop(self.process)


class DpdkPair(Pair):
    def __init__(self, bench, form):
        socket = bench.folder / f"dpdk-{form}.sock"
        self.back = Testpmd(bench, f"back-{form}", BACK_CPUS, f"net_vhost0,iface={socket},queues=1")
        bench.wait_socket(self.back.process, socket)
        self.front = front_end(bench, "dpdk", form, socket)

    def wake(self):
        pass

    def quiet(self):
        self.back.do("stop")

    def begin(self, mode):
        self.back.do(f"set fwd {mode}", "start")

    def end(self):
        super().end()
        self.back.end()


def race(bench, contest):
    """Packets a second, each way, in each ring format."""
    table = contest.table("Packets a second, 64 bytes, one descriptor each",
                          "Front end: DPDK's virtio-user, one queue pair of 256, bursts of 32, no in-order, no "
                          "mergeable buffers.")
    need_program("dpdk-testpmd", "dpdk-dev")
    if len(os.sched_getaffinity(0)) < 2:
        raise NotHere("one processor: the two sides of a ring need one each to poll on")
    for form in FORMATS:
        pairs = {}
        try:
            pairs = {OURS: TenonPair(bench, form), PEER: DpdkPair(bench, form)}
            for direction, title in (("out", "from the guest"), ("in", "to the guest")):
                row = table.row(f"{form}, {title}", "packets/s", target=times_the_peer(1.0))
                bench.alternate(list(pairs), lambda side: row.add(
                    side, pairs[side].measure(direction, bench.seconds)))
                if row.reached() is False:
                    row.profile = pairs[OURS].profile(direction)
        finally:
            for pair in pairs.values():
                pair.end()


def alone(bench, contest):
    """tests/bench/bench_ring.c: get and release, no other side."""
    table = contest.table("Nanoseconds a chain in one process: get and release")
    rows = {}
    for _ in range(bench.rounds):
        for line in output([bench.program("bench_ring")]).splitlines():
            found = re.match(r"(split|packed) +(\d) descriptors?, +batch +(\d+): +(\S+) ns", line)
            if not found:
                continue
            key = found.groups()[:3]
            if key not in rows:
                rows[key] = table.row(f"{key[0]}, {key[1]} descriptor{'s' if key[1] != '1' else ''}, "
                                      f"batch {key[2]}", "ns", more=False)
            rows[key].add(OURS, float(found[4]))


def run(bench):
    contest = Contest(
        2, "The ring",
        "First what a chain costs the device by itself: taking it from the ring and giving it back, "
        "256 of them a turn, shown to the driver in batches of 1 or 32 "
        "(tests/bench/bench_ring.c, driver and device in one process, one after the other). Then "
        "packets a second over vhost-user: DPDK's testpmd with a virtio-user port is the driver, and "
        "is served by `tenon serve` with a network that costs nothing (backend=null, poll=on) or by "
        "another testpmd with DPDK's vhost port (rxonly, txonly). Both sides poll, each on a processor "
        "of its own.",
        "DPDK's vhost copies each packet into or out of a buffer of its own, 64 bytes; tenon's null "
        "network reads and writes frames' headers only, as a back end that takes frames where they "
        "are does. The driver itself limits the rate: a device that is faster than it does not get "
        "ahead any more.")
    alone(bench, contest)
    try:
        race(bench, contest)
    except NotHere as reason:
        contest.notes.append(f"Beside DPDK: not run here: {reason}.")
    return contest
