# SPDX-License-Identifier: BSD-3-Clause
"""contest.py: what contests are made of: rounds that alternate between the sides, rows, processes."""

import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
PROJECT = BENCH.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
OURS = "tenon"


class NotHere(Exception):
    """This machine cannot run the contest, or this row of it; the text says what it lacks."""


class Target:
    """What is to be reached: at least so many times the peer, or a bound for our own figure."""

    def __init__(self, text, reached):
        self.text = text
        self.reached = reached


def times_the_peer(factor):
    return Target(f"≥ {factor:.1f} ×", lambda row: row.ratio()[0] >= factor)


def better_than_peer():
    return Target("better", lambda row: row.ratio()[0] > 1)


def at_least(value, text):
    return Target(f"≥ {text}", lambda row: row.median(OURS) >= value)


def at_most(value, text):
    return Target(f"≤ {text}", lambda row: row.median(OURS) <= value)


class Row:
    """
    One line of a table: what was measured, the samples of each side, round by round. The peer is
    best of the others; without one there is no ratio. @more: larger figures are better. @aside:
    sides that are shown only, since they do not do the same work.
    """

    def __init__(self, work, unit, more=True, target=None):
        self.work = work
        self.unit = unit
        self.more = more
        self.target = target
        self.samples = {}
        self.missing = {}
        self.aside = set()
        self.profile = None

    def add(self, side, value):
        self.samples.setdefault(side, []).append(value)

    def lacks(self, side, why):
        self.missing[side] = why

    def median(self, side):
        return statistics.median(self.samples[side])

    def peers(self):
        return [side for side in self.samples if side != OURS and side not in self.aside]

    def best_peer(self):
        peers = self.peers()
        if not peers:
            return None
        return (max if self.more else min)(peers, key=self.median)

    def ratio(self):
        """(median, lowest, highest) of the rounds' ratios to the best peer, or None; above 1 we are better."""
        peer = self.best_peer()
        if not peer or OURS not in self.samples:
            return None
        ratios = [ours / theirs if self.more else theirs / ours
                  for ours, theirs in zip(self.samples[OURS], self.samples[peer]) if ours and theirs]
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def reached(self):
        """True or False; None if there is no target or nothing to compare with."""
        if not self.target or OURS not in self.samples:
            return None
        try:
            return bool(self.target.reached(self))
        except TypeError:
            return None


class Table:
    """Rows with the same sides."""

    def __init__(self, title, text=""):
        self.title = title
        self.text = text
        self.rows = []

    def row(self, *arguments, **options):
        self.rows.append(Row(*arguments, **options))
        return self.rows[-1]


class Contest:
    """A contest's part of the page."""

    def __init__(self, number, title, does, limits):
        self.number = number
        self.title = title
        self.does = does
        self.limits = limits
        self.tables = []
        self.notes = []
        self.plots = []
        self.not_run = None
        self.seconds = 0.0

    def table(self, *arguments):
        self.tables.append(Table(*arguments))
        return self.tables[-1]

    def rows(self):
        return [row for table in self.tables for row in table.rows]

    def missed(self):
        return [row for row in self.rows() if row.reached() is False]


class Bench:
    """
    One run: where programs are, how many rounds, a folder for sockets and files. Processes started
    through it end with it.
    """

    def __init__(self, build, rounds, seconds):
        self.build = Path(build)
        self.rounds = rounds
        self.seconds = seconds
        self.folder = Path(tempfile.mkdtemp(prefix="tenon-bench-"))
        self.processes = []

    @property
    def tenon(self):
        return self.build / "tenon"

    def program(self, name):
        """One of ours, built by make."""
        path = self.build / "tests/bench" / name
        if not path.exists():
            raise NotHere(f"{path} was not built")
        return path

    def say(self, text):
        print(f"bench: {text}", flush=True)

    def alternate(self, sides, measure):
        """Call measure(side) in each round, the side that goes first taking turns."""
        for number in range(self.rounds):
            for side in sides if number % 2 == 0 else list(reversed(sides)):
                measure(side)

    def start(self, command, **options):
        """A process in the background with its output in a file of its own."""
        log = open(self.folder / f"log-{len(self.processes)}", "w+b")
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", log)
        process = subprocess.Popen([str(word) for word in command], stderr=log, **options)
        process.log = log
        self.processes.append(process)
        return process

    def words(self, process):
        """The end of what it said."""
        process.log.flush()
        process.log.seek(0)
        lines = process.log.read().decode(errors="replace").strip().splitlines()
        return shorten(lines[-1]) if lines else f"status {process.poll()}, without a word"

    def stop(self, process, patience=5):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_socket(self, process, path, patience=10):
        deadline = time.monotonic() + patience
        while not os.path.exists(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotHere(f"{process.args[0]} made no socket: {self.words(process)}")
            time.sleep(0.01)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def shorten(text):
    """The end of a complaint, where the cause is."""
    return text if len(text) <= 100 else "... " + text[-100:].partition(" ")[2]


def need_program(name, package):
    if not shutil.which(name):
        raise NotHere(f"no {name} here (apt-get install {package})")


def need_kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise NotHere("no /dev/kvm that may be used here")


def output(command, patience=60):
    """Its standard output, or NotHere with its last words."""
    run = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=patience, check=False)
    if run.returncode:
        words = (run.stderr.strip() or run.stdout.strip()).splitlines()
        raise NotHere(f"{Path(command[0]).name}: "
                      f"{shorten(words[-1]) if words else f'status {run.returncode}'}")
    return run.stdout


# ---- What /proc says about a process


def cpu_seconds(pid):
    """User and system time of all its threads, those that ended too."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid, guest_mib):
    """(Rss, Pss) without the guest's memory: a memfd, or the one mapping that has its size."""
    rss = pss = 0
    guest = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        word = line.split(maxsplit=1)[0]
        if not word.endswith(":"):
            guest = "memfd:" in line
        elif word == "Size:":
            guest = guest or int(line.split()[1]) == guest_mib << 10
        elif not guest and word == "Rss:":
            rss += int(line.split()[1])
        elif not guest and word == "Pss:":
            pss += int(line.split()[1])
    return rss, pss


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# ---- Profiles of what missed its target


def profile(pid, seconds=1, lines=8):
    """
    Where the process spends its time, hottest first: perf, which takes the clock where there are no
    counters. None if there is no perf.
    """
    if not shutil.which("perf"):
        return None
    with tempfile.TemporaryDirectory(prefix="tenon-perf-") as folder:
        data = f"{folder}/data"
        subprocess.run(["perf", "record", "-q", "-e", perf_event(), "-F", "999", "-o", data,
                        "-p", str(pid), "--", "sleep", str(seconds)],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        report = subprocess.run(["perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol",
                                 "--percent-limit", "1"], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, check=False).stdout
    found = [" ".join(line.split()).removesuffix(" - -") for line in report.splitlines()
             if line.strip() and not line.startswith("#")]
    return f"perf, {perf_event()}:\n" + "\n".join(found[:lines]) if found else None


def perf_event():
    """cycles, or cpu-clock where this machine has no counters."""
    run = subprocess.run(["perf", "stat", "-e", "cycles", "true"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True, check=False)
    return "cpu-clock" if run.returncode or "not supported" in run.stderr else "cycles"
