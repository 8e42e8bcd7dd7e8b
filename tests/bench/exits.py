# SPDX-License-Identifier: BSD-3-Clause
"""exits.py: contest 3: what a trapped access, a kick and an interrupt cost, with a bare-metal guest."""

import subprocess
import time

import vmm
from contest import Contest, NotHere, output, profile, times_the_peer

SIDES = ("tenon", "qemu")
NAMES = {"tenon": "tenon", "qemu": "QEMU microvm"}
WORK = {
    "pio": "PIO: read of a UART's register",
    "mmio": "MMIO: read of virtio's device status",
    "kick": "kick: write to an ioeventfd, empty queue",
    "msi": "request to its MSI",
}
COUNT = 5000


def disk(bench):
    path = bench.folder / "exits.img"
    path.write_bytes(bytes(1 << 20))
    return path


def command(bench, side, image, count):
    line = f"trips n={count} {vmm.PLACES[side]}"
    if side == "tenon":
        return vmm.tenon(bench, line, [f"virtio-blk,{image}"], ["--debug-exit"])
    return vmm.qemu(bench, line, ["isa-debug-exit,iobase=0xf4,iosize=1",
                                  "virtio-blk-pci,drive=disk,iothread=io"],
                    ["-object", "iothread,id=io",
                     "-drive", f"if=none,id=disk,format=raw,file={image}"])


def trips(bench, side, image):
    """{what: nanoseconds a trip} of one guest."""
    run = subprocess.run([str(word) for word in command(bench, side, image, COUNT)], check=False,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         timeout=60, text=True)
    found = {}
    for line in run.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] in WORK:
            found[words[0]] = int(words[2]) * 1e9 / bench.tsc / int(words[1])
    if len(found) != len(WORK):
        said = (run.stderr.strip() or run.stdout.strip()).splitlines()
        raise NotHere(f"{NAMES[side]}: the guest did not finish: {said[-1] if said else 'silence'}")
    return found


def explain(bench, contest, image):
    """Where tenon's time goes while the guest makes nothing but trips."""
    process = bench.start(command(bench, "tenon", image, 1000000))
    time.sleep(0.5)
    text = profile(process.pid)
    bench.stop(process)
    if text:
        contest.notes.append("What tenon does while its guest reads ports as fast as it can, "
                             f"threads of the kernel's KVM included:\n\n```\n{text}\n```")


def run(bench):
    contest = Contest(
        3, "Exits",
        "One bare-metal guest (tests/bench/guest) with a UART and a virtio-blk disk, the same file "
        "under both. It times, with the TSC, reads of a UART's scratch register (PIO), of virtio's "
        "device status (MMIO), writes to a queue's notification register with nothing in the queue "
        "(an ioeventfd in both), and requests that need no disk (GET_ID), each from the kick to the "
        "interrupt it is answered with; the guest spins meanwhile. QEMU's disk has an iothread.",
        "The kernel's share of an exit is the same for both and cannot be had back. Where /dev/kvm is "
        "a software KVM, which has the guest's instructions emulated, that share is nearly "
        "everything; on hardware it is about 1 µs.")
    vmm.need()
    bench.tsc = float(output([bench.program("launch"), "--tsc"]))
    image = disk(bench)
    table = contest.table("Nanoseconds a round trip")
    rows = {what: table.row(title, "ns", more=False, target=times_the_peer(1.2))
            for what, title in WORK.items()}

    def measure(side):
        for what, value in trips(bench, side, image).items():
            rows[what].add(NAMES[side], value)

    bench.alternate(SIDES, measure)
    rates = contest.table("The same, a second")
    for what, row in rows.items():
        other = rates.row(row.work, "1/s")
        for side, values in row.samples.items():
            other.samples[side] = [1e9 / value for value in values]
    if contest.missed():
        explain(bench, contest, image)
    return contest
