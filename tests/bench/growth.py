# SPDX-License-Identifier: BSD-3-Clause
"""growth.py: contest 6: what more devices, more queues and more VMs cost."""

import os
import shutil
import subprocess
import threading
import time

import vmm
from contest import Contest, descriptor_count, memory_kib, thread_count
from startup import Started

NAMES = {"tenon": "tenon", "qemu": "QEMU microvm"}
DEVICES = (1, 8, 30)
QUEUES = (1, 4, 16)
MACHINES = (1, 8, 64)
MEASURES = {"ms": "time to start, ms", "mib": "memory, MiB", "threads": "threads",
            "fds": "file descriptors"}


def rng(side, count):
    return ["virtio-rng" if side == "tenon" else "virtio-rng-pci"] * count


def blk(bench, side, queues):
    image = bench.folder / "growth.img"
    if not image.exists():
        image.write_bytes(bytes(1 << 20))
    if side == "tenon":
        return [f"virtio-blk,{image},queues={queues}"], []
    return ([f"virtio-blk-pci,drive=disk,num-queues={queues}"],
            ["-drive", f"if=none,id=disk,format=raw,file={image}"])


def one(bench, command):
    """The figures of one VM, once its guest runs."""
    started = Started(bench, command)
    figures = look([started])
    figures["ms"] = started.ms
    started.close()
    return figures


def look(machines):
    pids = [machine.pid for machine in machines]
    return {"mib": sum(memory_kib(pid, vmm.MEMORY)[1] for pid in pids) / 1024,
            "threads": sum(thread_count(pid) for pid in pids),
            "fds": sum(descriptor_count(pid) for pid in pids)}


def many(bench, side, count):
    """The figures of @count VMs that are started at once."""
    machines, failures = [], []

    def start():
        try:
            machines.append(Started(bench, getattr(vmm, side)(bench, "idle")))
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(count)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = (time.monotonic() - begin) * 1000
    if failures or len(machines) != count:
        for machine in machines:
            machine.close()
        raise OSError(f"{count} VMs: {failures[0] if failures else 'not all of them started'}")
    figures = look(machines)
    figures["ms"] = taken
    for machine in machines:
        machine.close()
    return figures


def command_with_queues(bench, side, count):
    devices, options = blk(bench, side, count)
    return getattr(vmm, side)(bench, "idle", devices, options)


SERIES = (
    ("devices", "virtio-rng devices", DEVICES,
     lambda bench, side, count: one(bench, getattr(vmm, side)(bench, "idle", rng(side, count)))),
    ("queues", "queues of a virtio-blk", QUEUES,
     lambda bench, side, count: one(bench, command_with_queues(bench, side, count))),
    ("machines", "VMs on one host", MACHINES, many),
)

PLOT = """
set terminal svg size 960,720 font "sans,11" background "#ffffff"
set output "{output}"
set multiplot layout 2,2
set key top left Left reverse
set logscale xy
set grid
set style data linespoints
{plots}
unset multiplot
"""


def plot(bench, results, name):
    """doc/performance-NAME.svg: the four measures against the number of VMs, devices, queues."""
    if not shutil.which("gnuplot"):
        return None
    plots = []
    for measure, title in MEASURES.items():
        curves = []
        for side, label in NAMES.items():
            data = bench.folder / f"{name}-{measure}-{side}"
            data.write_text("".join(f"{count} {figures[side][measure]}\n"
                                    for count, figures in results.items()),
                            encoding="utf-8")
            curves.append(f'"{data}" title "{label}" linewidth 2')
        counts = ", ".join(str(count) for count in results)
        plots.append(f'set title "{title}"\nset xtics ({counts})\nplot {", ".join(curves)}')
    path = bench.folder / f"{name}.svg"
    subprocess.run(["gnuplot"], input=PLOT.format(output=path, plots="\n".join(plots)), text=True,
                   stderr=subprocess.DEVNULL, check=True)
    return path


def run(bench):
    contest = Contest(
        6, "Growth",
        "The guest of contest 4 with 1, 8 and 30 virtio-rng devices; with a virtio-blk of 1, 4 and 16 "
        "queues; and 1, 8 and 64 such VMs started at once on this machine. Time until the guests run, "
        "memory without the guests' (Pss, so that what processes share counts once), threads and file "
        "descriptors of all processes together.",
        "The guests sleep and no driver sets a queue up: what queues in use take is not in here. "
        f"{os.cpu_count()} processors start the VMs.")
    vmm.need()
    for name, title, counts, figures_of in SERIES:
        results = {}
        table = contest.table(f"{title[0].upper()}{title[1:]}")
        for count in counts:
            rows = {measure: table.row(f"{count}: {text.split(',')[0]}", text.partition(", ")[2], more=False)
                    for measure, text in MEASURES.items()}

            def measure(side):
                for what, value in figures_of(bench, side, count).items():
                    rows[what].add(NAMES[side], value)

            bench.alternate(tuple(NAMES), measure)
            results[count] = {side: {what: row.median(label) for what, row in rows.items()}
                              for side, label in NAMES.items()}
        path = plot(bench, results, name)
        if path:
            contest.plots.append((f"performance-{name}.svg", title, path))
    return contest
