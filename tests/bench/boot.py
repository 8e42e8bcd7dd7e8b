# SPDX-License-Identifier: BSD-3-Clause
"""boot.py: contest 5: a stock kernel from exec to init, in the lab's outer machine with real KVM."""

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from contest import BENCH, PROJECT, Contest, NotHere, Target, need_program, shorten

sys.path.insert(0, str(PROJECT / "tests/lab"))

import images
import workers

MEMORY = 256
SILENCE = 75  # seconds that an outer machine may say nothing: it starts in 20, a boot takes 10
PATIENCE = 270  # seconds for all boots; what is not done by then is left out
BOOTARGS = "console=ttyS0 quiet panic=-1"
FIRMWARE = ("bios-256k.bin", "bios-microvm.bin", "qboot.rom", "linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin")
FIRMWARE_FOLDERS = ("/usr/share/qemu", "/usr/share/seabios")
KERNELS = {"vmlinuz": "bzImage", "vmlinux": "the ELF kernel out of it, by PVH"}
QEMU = ("/lab/qemu-system-x86_64 -L /lab -accel kvm -cpu host -m {memory} -nodefaults -display none "
        "-no-reboot -serial stdio -kernel {kernel} -initrd /lab/guest.cpio -append '{bootargs}' -M ")
SIDES = {
    "tenon": "/lab/tenon run --hv kvm -m {memory} -k {kernel} -r /lab/guest.cpio -B '{bootargs}' "
             "-l com1,stdio bench",
    "QEMU q35": QEMU + "q35",
    "QEMU microvm": QEMU + "microvm,x-option-roms=off,pit=off,pic=off,rtc=off",
}


def build_init(folder):
    program = folder / "init"
    subprocess.run(("gcc", "-std=gnu11", "-O2", "-static", "-o", program, BENCH / "guest/init.c"),
                   check=True)
    ramdisk = images.Ramdisk()
    ramdisk.add(program, "init")
    ramdisk.write(folder / "guest.cpio")


def firmware():
    for name in FIRMWARE:
        found = [Path(folder) / name for folder in FIRMWARE_FOLDERS if (Path(folder) / name).exists()]
        if not found:
            raise NotHere(f"QEMU's {name} is in none of {', '.join(FIRMWARE_FOLDERS)}")
        yield found[0].resolve(), name


def plan(rounds):
    """(side, kernel) of every boot, the sides taking turns."""
    boots = []
    for number in range(rounds):
        sides = list(SIDES) if number % 2 == 0 else list(reversed(SIDES))
        boots += [(side, kernel) for kernel in KERNELS for side in sides]
    return boots


def script(boots):
    """For busybox sh: "BOOT nanoseconds:complaint" for each."""
    lines = []
    for side, kernel in boots:
        command = SIDES[side].format(memory=MEMORY, kernel=f"/lab/{kernel}", bootargs=BOOTARGS)
        lines.append(f'set -- $(/lab/launch BENCH-INIT {command} </dev/null 2>/tmp/errors)')
        lines.append('echo "BOOT $2:$(head -n 1 /tmp/errors)"')
    return "\n".join(lines)


def prepare(bench, folder):
    """Kernels and ramdisk in @folder; returns what the outer machine gets of QEMU and of ours."""
    kernel = images.fetch_kernel()
    (folder / "vmlinuz").write_bytes(next(kernel.glob("boot/vmlinuz-*")).read_bytes())
    images.extract_vmlinux(folder / "vmlinuz", folder / "vmlinux")
    build_init(folder)
    qemu = shutil.which("qemu-system-x86_64")
    return [(Path(qemu), "qemu-system-x86_64"), (bench.program("launch"), "launch"),
            (folder / "vmlinux", "vmlinux"), *firmware()]


def lines_of(bench, machine):
    """What the outer machine says on its console, line by line, until it ends or falls silent."""
    process = bench.start(machine, stdout=subprocess.PIPE)
    text = b""
    try:
        while select.select([process.stdout], [], [], SILENCE)[0]:
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                return
            *lines, text = (text + piece).split(b"\n")
            yield from (line.decode(errors="replace").strip() for line in lines)
    finally:
        bench.stop(process, 1)


def boots(bench, rounds):
    """
    (side, kernel, nanoseconds or "", complaint) of every boot. An outer machine may hang, since QEMU's
    nested SVM can lose its timer interrupt; then another one goes on behind the boot that hung.
    """
    folder = bench.folder / "boot"
    folder.mkdir()
    files = prepare(bench, folder)
    left = plan(rounds)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        images.build_outer_command(bench.tenon, folder, files, script(left))
        machine = workers.outer_machine(0, folder, "2G", ["-serial", "stdio"], ["lab_command=1"])
        for line in lines_of(bench, machine):
            if line.startswith("BOOT ") and left:
                taken, _, complaint = line[5:].partition(":")
                yield (*left.pop(0), taken, complaint)
            if time.monotonic() > deadline:
                return
        if left:
            yield (*left.pop(0), "", "the outer machine hung")


def run(bench):
    contest = Contest(
        5, "Boot of a stock kernel",
        "Debian's cloud kernel with an initramfs whose init says one word, 256 MiB, one CPU, a UART and "
        "nothing else, from fork() until that word. All of it in one outer machine of the lab: QEMU "
        "emulates a processor with AMD's virtualisation, a stock kernel in there has a real /dev/kvm, "
        "and tenon and QEMU run beside each other on it.",
        "Everything in the outer machine is about 20 times slower than on a processor with "
        "virtualisation, exits even more so: of the times only the ratios mean something.")
    need_program("qemu-system-x86_64", "qemu-system-x86")
    table = contest.table("Milliseconds from exec to init")
    fastest = Target("fastest", lambda row: row.median("tenon") < row.median(row.best_peer()))
    rows = {kernel: table.row(title, "ms", more=False, target=fastest)
            for kernel, title in KERNELS.items()}
    try:
        for side, kernel, taken, complaint in boots(bench, bench.rounds):
            if taken:
                rows[kernel].add(side, int(taken) / 1e6)
            elif "hung" not in complaint:
                rows[kernel].lacks(side, shorten(complaint or "did not reach init"))
    except images.ImageError as error:
        raise NotHere(str(error)) from error
    return contest
