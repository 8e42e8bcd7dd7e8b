# SPDX-License-Identifier: BSD-3-Clause
"""vmm.py: command lines that give the bare-metal guest (guest/) the same machine, ours and QEMU's."""

from contest import need_kvm, need_program

# QEMU's smallest machine, without what tenon has not got either. Its guest memory is in a memfd, so
# that smaps tells it from the rest.
MICROVM = "microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on,memory-backend=ram"
MEMORY = 16  # MiB
# Where each has its ECAM; the guest puts BARs at the other address.
PLACES = {"tenon": "ecam=0xb0000000 mmio=0xc0000000", "qemu": "ecam=0xe0000000 mmio=0xc0000000"}


def need():
    need_kvm()
    need_program("qemu-system-x86_64", "qemu-system-x86")


def tenon(bench, line, devices=(), options=()):
    """@devices: arguments of -s."""
    command = [bench.tenon, "run", "--hv", "kvm", "-m", str(MEMORY), "-k", bench.program("guest.elf"),
               "-B", line, "-l", "com1,stdio", "--no-reboot", *options]
    for device in devices:
        command += ["-s", device]
    return command + ["bench"]


def qemu(bench, line, devices=(), options=()):
    """@devices: arguments of -device; PCI is there if there are any."""
    machine = MICROVM + (",pcie=on" if devices else "")
    command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "qemu64,-sse3,-svm",
               "-object", f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on", "-M", machine,
               "-m", str(MEMORY), "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
               "-kernel", bench.program("guest.elf"), "-append", line, *options]
    for device in devices:
        command += ["-device", device]
    return command
