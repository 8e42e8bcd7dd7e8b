# SPDX-License-Identifier: BSD-3-Clause
"""boot.py: contest 5: a stock kernel from exec to init, in the lab's outer machine with real KVM."""

import shutil
import subprocess
import sys
from pathlib import Path

from contest import BENCH, PROJECT, Contest, NotHere, Target, need_program

sys.path.insert(0, str(PROJECT / "tests/lab"))

import images
import workers

MEMORY = 256
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


def script(rounds):
    """For busybox sh: "BOOT side kernel nanoseconds" for each boot, the sides taking turns."""
    lines = []
    for number in range(rounds):
        sides = list(SIDES) if number % 2 == 0 else list(reversed(SIDES))
        for kernel in KERNELS:
            for side in sides:
                command = SIDES[side].format(memory=MEMORY, kernel=f"/lab/{kernel}",
                                             bootargs=BOOTARGS)
                lines.append(f'set -- $(/lab/launch BENCH-INIT {command} </dev/null 2>/tmp/errors)')
                lines.append(f'echo "BOOT {side}:{kernel}:$2:$(head -n 1 /tmp/errors)"')
    return "\n".join(lines)


def boots(bench, rounds):
    """The outer machine's lines, as (side, kernel, nanoseconds as text, complaint)."""
    folder = bench.folder / "boot"
    folder.mkdir()
    kernel = images.fetch_kernel()
    (folder / "vmlinuz").write_bytes(next(kernel.glob("boot/vmlinuz-*")).read_bytes())
    images.extract_vmlinux(folder / "vmlinuz", folder / "vmlinux")
    build_init(folder)
    qemu = shutil.which("qemu-system-x86_64")
    files = [(Path(qemu), "qemu-system-x86_64"), (bench.program("launch"), "launch"),
             (folder / "vmlinux", "vmlinux"), *firmware()]
    images.build_outer_command(bench.tenon, folder, files, script(rounds))
    machine = workers.outer_machine(0, folder, "2G", ["-serial", "stdio"], ["lab_command=1"])
    run = subprocess.run(machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
                         timeout=60 + rounds * 6 * 60)
    said = run.stdout.decode(errors="replace").replace("\r", "").splitlines()
    found = [line[5:].split(":", 3) for line in said if line.startswith("BOOT ")]
    if not found:
        raise NotHere(f"the outer machine said: {said[-1] if said else 'nothing'}")
    return found


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
        found = boots(bench, min(bench.rounds, 2))
    except images.ImageError as error:
        raise NotHere(str(error)) from error
    for side, kernel, taken, complaint in found:
        if taken:
            rows[kernel].add(side, int(taken) / 1e6)
        else:
            rows[kernel].lacks(side, complaint or "did not reach init")
    return contest
