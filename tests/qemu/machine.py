# SPDX-License-Identifier: BSD-3-Clause
"""machine.py: a QEMU process under TCG with a stock kernel, whose virtio devices are somebody else's."""

import json
import re
import socket
import subprocess
import threading

from images import Ramdisk, fetch_kernel, find_busybox
from serving import PROJECT, Failure, check, wait_until

HERE = PROJECT / "tests/qemu"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "button", "evdev")
MEMORY = 192  # MiB
BUILDING = threading.Lock()


def base_image(folder):
    """The kernel, and the ramdisk that all rows have; made once a run."""
    with BUILDING:
        kernel = fetch_kernel()
        path = folder / "base.cpio"
        if not path.exists():
            ramdisk = Ramdisk()
            ramdisk.add(HERE / "guest-init", "init")
            ramdisk.add(find_busybox(), "bin/busybox")
            ramdisk.add(blockload(folder), "bin/blockload")
            ramdisk.add_modules(kernel, MODULES)
            ramdisk.write(path)
        return next(kernel.glob("boot/vmlinuz-*")), path


def blockload(folder):
    program = folder / "blockload"
    subprocess.run(("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-o", program,
                    PROJECT / "tests/uml/blockload.c"), check=True)
    return program


class Machine:
    """
    Started at once. @devices: QEMU's options; @script: what its init runs, a command that fails ends
    it; @files: pairs of a name and data, put into /.
    """

    def __init__(self, row, name, devices, script, files=(), cpus=2):
        self.row, self.name, self.qmp = row, name, None
        self.log = row.folder / f"{name}.log"
        kernel, base = base_image(row.folder.parent)
        own = Ramdisk()
        own.entry("command", 0o100755, script.encode() + b"\n")
        for path, data in files:
            own.entry(path, 0o100644, data)
        own.write(row.folder / f"{name}.own")
        initrd = row.folder / f"{name}.cpio"
        initrd.write_bytes(base.read_bytes() + (row.folder / f"{name}.own").read_bytes())
        self.monitor = row.sockets / f"{name}.qmp"
        self.command = [
            "qemu-system-x86_64", "-machine", "q35,accel=tcg,memory-backend=ram", "-smp", str(cpus),
            "-cpu", "qemu64", "-m", str(MEMORY), "-object",
            f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", f"file:{self.log}",
            "-qmp", f"unix:{self.monitor},server=on,wait=off", "-kernel", kernel, "-initrd", initrd,
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check", *devices]
        self.start()
        row.on_end(self.kill)

    def start(self, *more):
        with open(self.row.folder / f"{self.name}.qemu", "ab") as log:
            self.process = subprocess.Popen([*self.command, *more], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self):
        said = (self.row.folder / f"{self.name}.qemu").read_text(errors="replace").splitlines()
        return " | ".join(said[-3:] + self.text().splitlines()[-4:])

    def wait_for(self, expression, seconds, number=1):
        """Until @expression is in what the guest said @number times. Return: the last match."""
        def look():
            found = list(re.finditer(expression, self.text()))
            check(len(found) >= number or self.process.poll() is None,
                  f"{self.name}: QEMU ended before \"{expression}\"; {self.tail()}")
            return found[-1] if len(found) >= number else None
        try:
            return wait_until(look, seconds, f"{self.name}: no \"{expression}\"")
        except Failure as failure:
            raise Failure(f"{failure}; {self.tail()}") from None

    def ask(self, command, **arguments):
        """A command of QEMU's monitor; what it returned."""
        if not self.qmp:
            wait_until(self.monitor.exists, 10, "QEMU's monitor does not listen")
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(20)
            peer.connect(str(self.monitor))
            self.row.on_end(peer.close)
            self.qmp = peer.makefile("rw")
            self.qmp.readline()
            self.ask("qmp_capabilities")
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            check("error" not in answer, f"{command}: {answer.get('error')}")
            if "return" in answer:
                return answer["return"]

    def finish(self, seconds=90):
        """Until it has powered off; all of the script must have been done."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name}: does not end; {self.tail()}") from None
        status = re.search(r"^STATUS (\d+)", self.text(), re.M)
        check(status, f"{self.name}: did not get to its end; {self.tail()}")
        check(status[1] == "0", f"{self.name}: its script ended with {status[1]}; {self.tail()}")
