# SPDX-License-Identifier: BSD-3-Clause
"""workers.py: who does the rows: serve.py here, or in an outer machine with emulated SVM."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

from images import LAB
from guest import ROW_SECONDS

START_SECONDS = 180


class WorkerFailed(Exception):
    """The worker is dead or silent."""


def has_virtualisation():
    """True if this machine's KVM runs stock kernels: a software one has no CPU flag for it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = re.search(r"^flags\s*:(.*)", file.read(), re.M)
    return bool(flags) and bool({"vmx", "svm"} & set(flags[1].split())) and \
        os.access("/dev/kvm", os.R_OK | os.W_OK) and os.geteuid() == 0


def outer_machine(number, folder, memory, serial, append=()):
    """
    QEMU's command line. The CPU model and the single processor are what the stock kernel survives
    under QEMU 7.2.
    """
    return ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
            "-accel", "tcg", "-cpu", "qemu64,+svm,+npt", "-machine", "pc,memory-backend=ram",
            "-object", f"memory-backend-ram,id=ram,size={memory},reserve=off", "-m", memory,
            "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "outer.cpio"), *serial,
            "-append", " ".join(("console=ttyS0 quiet panic=-1 mitigations=off",
                                 f"LAB_WORKER={number} python={sys.executable}", *append))]


class Worker:
    """A process that speaks serve.py's protocol on its standard input and output."""

    def __init__(self, number, tenon, folder, emulated):
        self.buffer = b""
        self.emulated = emulated
        environment = dict(os.environ, LAB_WORKER=str(number), LAB_IMAGES=str(folder),
                           LAB_TENON=str(tenon))
        # Neither survives this process: serve.py ends its guests on SIGTERM.
        command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-B", "-E", "-s", "-S",
                   str(LAB / "serve.py")]
        if emulated:
            command = outer_machine(number, folder, "2G", ["-serial", f"file:{folder}/outer-{number}.log"])
            command += ["-device", "virtio-serial-pci", "-chardev", "stdio,id=lab,signal=off",
                        "-device", "virtserialport,chardev=lab,name=lab"]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, start_new_session=True)
        self.next_event(START_SECONDS)

    def next_event(self, seconds):
        """The next event within @seconds, or WorkerFailed."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise WorkerFailed(f"nothing was heard of it for {seconds} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise WorkerFailed("it ended")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def do(self, row):
        """Do @row; yields its events, the last one is its result."""
        self.process.stdin.write(row.encode() + b"\n")
        self.process.stdin.flush()
        while True:
            event = self.next_event(ROW_SECONDS + 30)
            yield event
            if event["event"] == "result":
                return

    def close(self):
        """End it: serve.py takes its guests with it, an outer machine has nothing to tidy."""
        self.process.send_signal(signal.SIGKILL if self.emulated else signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
