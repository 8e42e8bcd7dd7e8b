# SPDX-License-Identifier: BSD-3-Clause
"""guest.py: one tenon process, its guest's words, and the host's ends of its devices."""

import contextlib
import hashlib
import os
import queue
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import checks
from checks import MIB, sha256

# For the slowest machine; what hangs is ended then.
ROW_SECONDS = 240
LEGACY = "virtio_pci.force_legacy=1"
NOMSI = "pci=nomsi"
NOAPIC = "noapic"
# What the guest does to a line before it echoes it.
ROTATE = str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza")


def own_kib(pid):
    """Anonymous memory of a process, without the largest mapping, which is its guest's on some ports."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        text = file.read()
    sizes = map(int, re.findall(r"^Size:\s+(\d+)", text, re.MULTILINE))
    anonymous = map(int, re.findall(r"^Anonymous:\s+(\d+)", text, re.MULTILINE))
    mappings = sorted(zip(sizes, anonymous, strict=True))
    return sum(kib for _, kib in mappings[:-1])


class RowFailed(Exception):
    """The row cannot go on."""


def ip_command(*words):
    subprocess.run(("busybox", "ip", *words), check=True, stdout=subprocess.DEVNULL)


class Port:
    """The host's end of a console port: a client of the Unix socket that tenon serves."""

    def __init__(self, path):
        self.path = path
        self.socket = None
        self.transfer = None
        self.sent = self.received = None

    def connect(self):
        """True once connected."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        try:
            client.connect(self.path)
        except OSError:
            client.close()
            return False
        self.socket = client
        return True

    def send_line(self):
        self.sent = "nonce " + "".join(chr(ord("a") + byte % 26) for byte in os.urandom(40))
        self.socket.sendall(self.sent.encode() + b"\n")

    def expect_line(self):
        line = b""
        while not line.endswith(b"\n"):
            piece = self.socket.recv(1)
            if not piece:
                break
            line += piece
        self.received = line.decode(errors="replace").strip()

    def start_bulk(self):
        """Send 1 MiB and receive 1 MiB, in a thread: the guest does one after the other."""
        self.sent, self.received = os.urandom(MIB), b""

        def transfer():
            with contextlib.suppress(TimeoutError):
                self.socket.sendall(self.sent)
                while piece := self.socket.recv(MIB - len(self.received)):
                    self.received += piece

        self.transfer = threading.Thread(target=transfer, daemon=True)
        self.transfer.start()


class Guest:
    """One tenon process, and the conversation with its guest over com1."""

    def __init__(self, row, name, devices, steps, *, append="", memory="512M", cpus=1,
                 kernel="vmlinuz", end="poweroff", options=()):
        self.row = row
        self.steps = list(steps)
        self.cards = sum(device.startswith("virtio-net") for device in devices)
        self.device_count = len(devices)
        self.said = []
        self.ports = {}
        self.pending_taps = []
        self.kept_taps = set()
        self.lacks = set()  # features that are not expected
        self.transfers = []
        self.msi = NOMSI not in append
        self.ioapic = NOAPIC not in append
        self.versions = {"0"} if LEGACY in append else {"1"}
        self.button = signal.SIGTERM
        self.ended = False
        self.counted = None
        self.rtc_late = []
        networks = [row.network(card) for card in range(self.cards)]
        words = ["console=ttyS0", "quiet", "panic=-1", append, f"lab={','.join(steps)}",
                 f"lab_end={end}", f"lab_ip={','.join(n + '.2' for n in networks)}",
                 f"lab_host={','.join(n + '.1' for n in networks)}"]
        command = [row.lab.tenon, "run", "--hv", row.port, "-m", memory, "-c", str(cpus),
                   "-k", row.lab.image(kernel), "-r", row.lab.image("guest.cpio"), "-B", " ".join(filter(None, words)),
                   "-l", "com1,stdio", *options]
        for device in devices:
            command += ["-s", device]
            self.pending_taps += re.findall(r"tap=([^,]+)", device)
            for port, path in re.findall(r"(?:port=(\w+):)?socket:([^:,]+):server", device):
                self.ports[port or "console"] = Port(path)
        self.taps = list(self.pending_taps)
        self.unconnected = list(self.ports.values())
        self.errors = tempfile.TemporaryFile()
        self.log = [" ".join(command)]
        self.lines = queue.Queue()
        self.started = time.monotonic()
        self.process = subprocess.Popen([*command, name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors,
                                        start_new_session=True)
        threading.Thread(target=self.read_lines, daemon=True).start()

    def read_lines(self):
        for line in self.process.stdout:
            self.lines.put(line.decode(errors="replace").rstrip())
        self.lines.put(None)

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def values(self, fact):
        return [text for seen, text in self.said if seen == fact]

    def set_up_host(self):
        """Give the interfaces that exist by now an address; connect to the sockets that exist."""
        for tap in list(self.pending_taps):
            if os.path.exists(f"/sys/class/net/{tap}"):
                card = self.taps.index(tap)
                ip_command("address", "add", f"{self.row.network(card)}.1/24", "dev", tap)
                ip_command("link", "set", tap, "up")
                self.pending_taps.remove(tap)
        self.unconnected = [port for port in self.unconnected if not port.connect()]

    def run(self, until=None):
        """Serve the guest until tenon closes com1, or the guest has said @until."""
        while not self.ended:
            self.set_up_host()
            if time.monotonic() > self.row.deadline:
                raise RowFailed(f"time limit; the last line of the guest: {self.log[-1]!r}")
            try:
                line = self.lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                self.ended = True
                return
            self.log.append(line)
            found = re.search(r"LAB (\S+) ?(.*)", line)
            if found:
                self.hear(found[1], found[2].strip())
            if until and self.values(until):
                return

    def hear(self, fact, text):
        self.said.append((fact, text))
        if fact == "ask":
            verb, *arguments = text.split()
            answer = getattr(self, "answer_" + verb)(*arguments)
            self.process.stdin.write(f"{answer}\n".encode())
            self.process.stdin.flush()
        elif fact == "init":
            self.boot_seconds = time.monotonic() - self.started
            self.row.facts.setdefault("boot", f"{self.boot_seconds:.2f}")
            self.row.lab.stage(self.row.name, f"guest init, {self.boot_seconds:.1f} s after exec")
        elif fact == "rtc":
            self.rtc_late.append(time.time() - int(text))
        elif fact == "step":
            self.row.lab.stage(self.row.name, f"guest: {text}")

    # What the guest asks for.

    def answer_ping(self, address):
        run = subprocess.run(("busybox", "ping", "-c", "3", "-i", "0.2", "-W", "2", address),
                             stdout=subprocess.PIPE, text=True, check=False)
        found = re.search(r"(\d+) packets received", run.stdout)
        self.said.append(("pinged", found[1] if found else "0"))
        return "ok"

    def answer_listen(self):
        """Two TCP servers: one takes what the guest sends, one sends 4 MiB."""
        upload, download = (socket.create_server((self.row.network() + ".1", 0)) for _ in range(2))
        content = os.urandom(4 * MIB)
        statistics = f"/sys/class/net/{self.taps[0]}/statistics/"

        def counters():
            names = ("rx_bytes", "rx_packets", "tx_bytes", "tx_packets")
            return [int(open(statistics + name, encoding="utf-8").read()) for name in names]

        def serve():
            with upload, upload.accept()[0] as peer:
                before, digest = counters(), hashlib.sha256()
                while piece := peer.recv(MIB):
                    digest.update(piece)
                middle = counters()
            self.said.append(("upload-seen", digest.hexdigest()))
            with download, download.accept()[0] as peer:
                peer.sendall(content)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
                after = counters()
            self.said.append(("download-sent", sha256(content)))
            up = (middle[0] - before[0]) // max(middle[1] - before[1], 1)
            down = (after[2] - middle[2]) // max(after[3] - middle[3], 1)
            self.said.append(("frame-size", f"{up} {down}"))

        upload.settimeout(60)
        download.settimeout(60)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.transfers.append(thread)
        return f"{upload.getsockname()[1]} {download.getsockname()[1]}"

    def answer_link(self, state):
        ip_command("link", "set", self.taps[0], state)
        return "ok"

    def answer_probe(self, *arguments):
        """Run the lab's own program on this side, and tell its number."""
        run = subprocess.run((self.row.lab.image("probe"), *arguments), stdout=subprocess.PIPE,
                             text=True, check=True)
        return run.stdout.strip()

    def answer_count(self):
        """Packets a second that have come out of the first card since the last time it was asked."""
        path = f"/sys/class/net/{self.taps[0]}/statistics/rx_packets"
        with open(path, encoding="utf-8") as file:
            packets, when = int(file.read()), time.monotonic()
        before = self.counted or (packets, when - 1)
        self.counted = (packets, when)
        return round((packets - before[0]) / (when - before[1]))

    def answer_resize(self, serial):
        # As truncate(1) does it: open, change, close. A bare truncate(2) is seen at the next flush.
        with open(self.row.path(serial), "r+b") as file:
            file.truncate(len(self.row.disks[serial]) + MIB)
        return "ok"

    def answer_send(self, name):
        if name == "bulk":
            self.ports[name].start_bulk()
        else:
            self.ports[name].send_line()
        return "ok"

    def answer_expect(self, name):
        port = self.ports[name]
        if name == "bulk":
            port.transfer.join(60)
            self.said.append(("bulk-sent", sha256(port.sent)))
            self.said.append(("bulk-received", sha256(port.received)))
        else:
            port.expect_line()
            self.row.same(f"echo on port {name}", port.received, port.sent.translate(ROTATE))
            self.said.append(("echoed", name))
        return "ok"

    def answer_memory(self):
        self.said.append(("private-kib", str(own_kib(self.process.pid))))
        return "ok"

    def answer_button(self):
        self.process.send_signal(self.button)
        return "ok"

    def control(self, *words):
        """A command for tenon's control socket: status and output. The row asked for one."""
        run = subprocess.run((self.row.lab.tenon, "control", self.row.path("control"), *words),
                             stdout=subprocess.PIPE, text=True, check=False)
        return run.returncode, run.stdout

    def answer_sleep(self, how):
        """The guest is about to suspend to RAM: see that it does and stays so, and wake it."""
        def wake():
            while "state suspended" not in self.control("status")[1]:
                if time.monotonic() > self.row.deadline:
                    return
                time.sleep(0.2)
            time.sleep(1)
            if "state suspended" in self.control("status")[1]:
                self.said.append(("asleep", how))
            if how == "wake":
                self.said.append(("woken", str(self.control("wake")[0])))
            elif how == "button":
                self.process.send_signal(self.button)

        threading.Thread(target=wake, daemon=True).start()
        return "ok"

    # The end of a run.

    def finish(self, status=0):
        """Run to the end; check the exit status, what each step reported, and for leftovers."""
        self.run()
        try:
            seen = self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise RowFailed("tenon closed com1 and did not exit within 10 s") from None
        row = self.row
        row.same("exit status", seen, status)
        errors = self.stderr()
        row.check("Sanitizer" not in errors and "runtime error" not in errors,
                  "a sanitizer's report, see the log")
        if not self.values("done") and status in (0, 3):
            last = (errors.strip() or self.log[-1]).splitlines()[-1]
            raise RowFailed(f"the guest did not get to its end; the last line: {last!r}")
        for complaint in self.values("complaint"):
            row.check(False, f"guest's kernel: {complaint}")
        for step in dict.fromkeys(self.steps):
            verify = getattr(checks, "verify_" + step, None)
            if verify and self.values("step").count(step):
                verify(row, self, self.steps.count(step))
        self.check_leftovers()

    def check_leftovers(self):
        for tap in set(self.taps) - self.kept_taps:
            self.row.check(not os.path.exists(f"/sys/class/net/{tap}"), f"interface {tap} is left")
        for name, port in self.ports.items():
            self.row.check(not os.path.exists(port.path), f"socket of port {name} is left")
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                session = os.getsid(int(entry))
            except OSError:
                continue
            self.row.check(session != self.process.pid, f"process {entry} is left")
