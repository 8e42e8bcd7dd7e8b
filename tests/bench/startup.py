# SPDX-License-Identifier: BSD-3-Clause
"""startup.py: contest 4: from exec to the guest's first instruction, and what it takes in memory."""

import re
import shutil
import subprocess
from pathlib import Path

import vmm
from contest import Contest, NotHere, Target, at_most, memory_kib

NAMES = {"tenon": "tenon", "qemu": "QEMU microvm"}
STARTS = 5  # a round; the fastest counts


class Started:
    """A guest that said S, and is kept until close()."""

    def __init__(self, bench, command):
        self.process = subprocess.Popen([str(word) for word in (bench.program("launch"), "S", *command)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        if len(words) != 2:
            said = self.process.communicate()[1].strip().splitlines()
            raise NotHere(f"{command[0]}: {said[-1] if said else 'its guest did not start'}")
        self.pid = int(words[0])
        self.ms = int(words[1]) / 1e6

    def close(self):
        self.process.communicate(timeout=20)


def libraries(pid):
    """Files that the loader mapped, besides the program itself."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return set(re.findall(r"(/\S+\.so\S*)", maps))


def mib(path):
    return Path(path).resolve().stat().st_size / (1 << 20)


def stripped_mib(bench, program):
    """As it would be installed: without what only a debugger reads."""
    copy = bench.folder / "stripped"
    run = subprocess.run(["strip", "-o", str(copy), str(program)], check=False)
    return mib(copy if run.returncode == 0 else program)


def run(bench):
    contest = Contest(
        4, "Start-up",
        "From fork() until the first byte that the guest writes to its serial port as its first "
        "instruction, measured outside (tests/bench/launch.c); the fastest start of "
        f"{STARTS} a round. Then, while the guest sleeps: Rss of the process without its guest's "
        "memory, the program's size without symbols, and the shared libraries it has loaded. QEMU has "
        "its smallest machine, microvm, without option ROMs, PIT, PIC and RTC, and starts the same "
        "PVH file.",
        "Devices: one UART each. QEMU's guest is reached by way of its qboot firmware, which runs in "
        "the guest and which tenon has no need of. Rss counts pages of libraries that other processes "
        "share.")
    vmm.need()
    table = contest.table("")
    tenth = Target("≤ 1/10 of QEMU's", lambda row: row.ratio()[0] >= 10)
    rows = {
        "ms": table.row("exec to first instruction", "ms", more=False, target=at_most(10, "10 ms")),
        "rss": table.row("resident, without guest memory", "MiB", more=False,
                         target=at_most(5, "5 MiB")),
        "tenth": table.row("the same, beside QEMU", "MiB", more=False, target=tenth),
        "size": table.row("size of the program", "MiB", more=False),
        "count": table.row("libraries loaded", "", more=False),
        "library": table.row("their size", "MiB", more=False),
    }
    programs = {"tenon": bench.tenon, "qemu": shutil.which("qemu-system-x86_64")}

    def measure(side):
        command = getattr(vmm, side)(bench, "idle")
        fastest = None
        for start in range(STARTS):
            started = Started(bench, command)
            fastest = min(fastest or started.ms, started.ms)
            if start == STARTS - 1:
                resident = memory_kib(started.pid, vmm.MEMORY)[0] / 1024
                loaded = libraries(started.pid)
            started.close()
        name = NAMES[side]
        rows["ms"].add(name, fastest)
        rows["rss"].add(name, resident)
        rows["tenth"].add(name, resident)
        rows["size"].add(name, stripped_mib(bench, programs[side]))
        rows["count"].add(name, len(loaded))
        rows["library"].add(name, sum(mib(path) for path in loaded))

    bench.alternate(tuple(NAMES), measure)
    if rows["ms"].reached() is False:
        contest.notes.append(slow_calls(bench))
    return contest


def slow_calls(bench):
    """The system calls of a start that take longest, as strace sees them."""
    if not shutil.which("strace"):
        return "Why the start takes that long is not known: there is no strace here."
    trace = bench.folder / "strace"
    started = Started(bench, ["strace", "-f", "-T", "-o", trace, *vmm.tenon(bench, "idle")])
    started.close()
    calls = []
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        found = re.match(r"\d+ +(\w+\([^,]*, [^,)]*).*<(\d+\.\d+)>$", line)
        if found and not re.match(r"(epoll_wait|futex|read|poll)\(|.*KVM_RUN", found[1]):
            calls.append((float(found[2]) * 1000, found[1] + " ...)"))
    calls.sort(reverse=True)
    lines = "\n".join(f"{ms:7.2f} ms  {call}" for ms, call in calls[:5])
    return f"The system calls of one start that took longest, under strace:\n\n```\n{lines}\n```"
