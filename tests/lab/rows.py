# SPDX-License-Identifier: BSD-3-Clause
"""rows.py: the rows of the lab's matrix. Runs beside tenon: in the outer machine, or on a host with KVM.

`rows.py serve` reads row names from standard input and answers with one JSON object a line:
{"event": "ready" | "stage" | "log" | "result", ...}. Standard library only, all imported here: images.py
copies what this file has loaded into the outer machine.
"""

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
ROW_SECONDS = 150
# Only letters of both sorts, so that nothing in between takes them for control characters.
ROTATE = str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza")
LEGACY = "virtio_pci.force_legacy=1"
NOMSI = "pci=nomsi"
DEVICE_STEPS = ("lspci", "disks", "write", "readonly", "net", "ports", "rng", "irq")

ROWS = {}
HIDDEN_ROWS = ("demo",)


def row(function):
    """Register a row of the matrix under its function's name."""
    ROWS[function.__name__.replace("_", "-")] = function
    return function


class RowFailed(Exception):
    """The row cannot go on."""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def ip_command(*words):
    subprocess.run(("busybox", "ip", *words), check=True, stdout=subprocess.DEVNULL)


class Row:
    """One row while it runs: its folder, disks, interfaces, guests, and what went wrong."""

    def __init__(self, name, lab):
        self.name = name
        self.lab = lab
        self.failures = []
        self.facts = {}
        self.guests = []
        self.disks = {}
        self.deadline = time.monotonic() + ROW_SECONDS
        self.folder = tempfile.mkdtemp(prefix="lab-")

    def check(self, good, text):
        if not good:
            self.failures.append(text)

    def same(self, what, seen, expected):
        self.check(seen == expected, f"{what}: {seen!r}, expected {expected!r}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def disk(self, serial, size=4 * MIB):
        """A disk image of random bytes; @serial names it for the guest."""
        content = os.urandom(size)
        with open(self.path(serial), "wb") as file:
            file.write(content)
        self.disks[serial] = content
        return self.path(serial)

    def disk_content(self, serial):
        with open(self.path(serial), "rb") as file:
            return file.read()

    def tap(self, card=0):
        return f"lab{self.lab.worker}t{card}"

    def network(self, card=0):
        return f"198.18.{self.lab.worker * 16 + card}"

    def guest(self, *args, **options):
        guest = Guest(self, *args, **options)
        self.guests.append(guest)
        return guest

    def clean_up(self):
        for guest in self.guests:
            guest.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


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
        self.transfers = []
        self.msi = NOMSI not in append
        self.versions = {"0"} if LEGACY in append else {"1"}
        self.button = signal.SIGTERM
        self.ended = False
        networks = [row.network(card) for card in range(self.cards)]
        words = ["console=ttyS0", "quiet", "panic=-1", append, f"lab={','.join(steps)}",
                 f"lab_end={end}", f"lab_ip={','.join(n + '.2' for n in networks)}",
                 f"lab_host={','.join(n + '.1' for n in networks)}"]
        command = [row.lab.tenon, "run", "-m", memory, "-c", str(cpus), "-k", row.lab.image(kernel),
                   "-r", row.lab.image("guest.cpio"), "-B", " ".join(filter(None, words)),
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
        self.process = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, start_new_session=True)
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
            try:
                line = self.lines.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() > self.row.deadline:
                    raise RowFailed(f"time limit of {ROW_SECONDS} s; the last line of the guest: "
                                    f"{self.log[-1]!r}") from None
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

    def answer_resize(self, serial):
        os.truncate(self.row.path(serial), len(self.row.disks[serial]) + MIB)
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
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            self.said.append(("private-kib", re.search(r"RssAnon:\s+(\d+)", file.read())[1]))
        return "ok"

    def answer_button(self):
        self.process.send_signal(self.button)
        return "ok"

    # The end of a run.

    def finish(self, status=0):
        """Run to the end; compare the exit status and what each step reported; look for leftovers."""
        self.run()
        try:
            seen = self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise RowFailed("tenon closed com1 and did not exit within 10 s") from None
        row = self.row
        row.same("exit status", seen, status)
        errors = self.stderr()
        row.check("Sanitizer" not in errors and "runtime error" not in errors, "a sanitizer's report")
        if not self.values("done") and status in (0, 3):
            last = (errors.strip() or self.log[-1]).splitlines()[-1]
            raise RowFailed(f"the guest did not get to its end; the last line of it or of tenon: {last!r}")
        for complaint in self.values("complaint"):
            row.check(False, f"guest's kernel: {complaint}")
        for step in dict.fromkeys(self.steps):
            verify = globals().get("verify_" + step)
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


# What each step of the guest must have reported, when it was done @times times.

def fields(text):
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def verify_lspci(row, guest, times):
    lines = guest.values("lspci")
    row.facts["kernel"] = guest.values("kernel")[0]
    row.facts["lspci"] = lines
    seen = sum("[1af4:" in line for line in lines)
    row.same("virtio devices on the bus", seen, guest.device_count * times)
    devices = [fields(text) for text in guest.values("virtio")]
    row.same("virtio devices with a driver", sum(bool(d["driver"]) for d in devices),
             guest.device_count * times)
    modern = {device["features"][32] for device in devices}
    row.same("feature bit 32, VERSION_1", modern, guest.versions)
    for device in devices:
        if device["type"] == "0x0001":
            # CSUM, GUEST_CSUM, MAC, GUEST_TSO4, HOST_TSO4, MRG_RXBUF, STATUS, CTRL_VQ
            missing = [bit for bit in (0, 1, 5, 7, 11, 15, 16, 17) if device["features"][bit] == "0"]
            row.check(not missing, f"virtio-net lacks feature bits {missing}")
    for seconds in guest.values("rtc"):
        row.check(abs(int(seconds) - time.time()) < 120, f"RTC says {seconds}, here it is {time.time():.0f}")


def verify_irq(row, guest, times):
    lines = guest.values("irq")
    chip = "PCI-MSIX" if guest.msi else "IO-APIC"
    row.facts["interrupts"] = chip
    for line in lines:
        row.check(chip in line, f"interrupt is not {chip}: {line}")
    for number in range(guest.device_count):
        # One line a vector with MSI-X; on a shared line one line with all names.
        of_device = [line for line in lines if re.search(rf"virtio{number}\b", line)]
        row.check(of_device, f"virtio{number} has no interrupt")
    # "24:  counts of each processor  chip ...": something must have come.
    row.check(any(re.match(r"\d+:(\s+0)*\s+[1-9]", line) for line in lines), "no interrupt was counted")


def verify_disks(row, guest, times):
    # A disk that a step has written to is verified by that step.
    changed = {"scratch"} if {"write", "discard", "resize", "reboots"} & set(guest.steps) else set()
    seen = {}
    for text in guest.values("disk"):
        disk = fields(text)
        seen.setdefault(disk.get("serial"), []).append(disk)
    for serial, content in row.disks.items():
        disks = seen.get(serial, [])
        row.same(f"disk {serial} was seen", len(disks), times)
        for disk in disks:
            row.same(f"disk {serial}: sectors", int(disk["sectors"]), len(content) // 512)
            row.same(f"disk {serial}: read-only", disk["ro"], "1" if serial == "fixed" else "0")
            if serial not in changed or disk is disks[0]:
                row.same(f"disk {serial}: checksum", disk["sha256"], sha256(content))
    row.facts["disks"] = [f"{text.split()[0]} {len(row.disks[s])} bytes sha256 {fields(text)['sha256']}"
                          for text in guest.values("disk")[:len(row.disks)]
                          if (s := fields(text).get("serial")) in row.disks]


def verify_write(row, guest, times):
    row.same("read back after writing", guest.values("written"), [sha256(row.disks["data"])] * times)
    expected = bytearray(row.disks["scratch"])
    expected[MIB:5 * MIB] = row.disks["data"]
    row.same("scratch disk on the host", sha256(row.disk_content("scratch")), sha256(expected))
    row.facts["written"] = f"{len(row.disks['data'])} bytes sha256 {sha256(row.disks['data'])}"


def verify_readonly(row, guest, times):
    row.same("write to the read-only disk", guest.values("readonly"), ["refused"] * times)
    row.same("read-only disk on the host", sha256(row.disk_content("fixed")), sha256(row.disks["fixed"]))


def verify_discard(row, guest, times):
    limits = fields(guest.values("limits")[0])
    row.check(int(limits["discard"]) and int(limits["zeroes"]), f"limits: {limits}")
    row.same("discarded", guest.values("discarded"), ["1"])
    row.same("zeroed", guest.values("zeroed"), ["1"])
    expected = bytearray(row.disks["scratch"])
    expected[MIB:2 * MIB] = bytes(MIB)
    expected[4 * MIB:5 * MIB] = bytes(MIB)
    seen = row.disk_content("scratch")[:len(expected)]
    row.same("scratch disk after discard", sha256(seen), sha256(expected))
    with open(row.path("scratch"), "rb") as file:
        row.same("hole that discard left", os.lseek(file.fileno(), MIB, os.SEEK_HOLE), MIB)


def verify_resize(row, guest, times):
    before = len(row.disks["scratch"])
    row.same("sectors before and after", guest.values("resized"),
             [f"{before // 512} {(before + MIB) // 512}"])
    text = b"grown by the host"
    row.same("the new last sector", row.disk_content("scratch")[before + MIB - 512:][:len(text)], text)


def verify_net(row, guest, times):
    for thread in guest.transfers:
        thread.join(10)
    pings = guest.values("ping")
    row.same("cards that pinged", len(pings), guest.cards * times)
    for text in pings:
        row.check(" 3 packets received" in text, f"ping of the host: {text}")
    row.same("answers to the host's pings", guest.values("pinged"), ["3"] * guest.cards * times)
    for mine, other in (("uploaded", "upload-seen"), ("download-sent", "downloaded")):
        row.same(f"transfers {mine}", len(guest.values(mine)), times)
        row.same(f"checksums {mine}, {other}", guest.values(other), guest.values(mine))
    for sizes in guest.values("frame-size"):
        # How large TCP makes its segments depends on the pace; without offload none exceeds the MTU.
        row.check(max(map(int, sizes.split())) > 1600, f"frames of {sizes} bytes: no segmentation offload")
    row.facts["ping"] = pings[0] if pings else "none"
    row.facts["net"] = ("4 MiB up and 4 MiB down with equal checksums, frames of "
                        f"{' and '.join((guest.values('frame-size') or ['?'])[0].split())} bytes on average")


def verify_link(row, guest, times):
    row.same("carrier", guest.values("carrier"), ["0", "1"] * times)


def verify_ports(row, guest, times):
    row.same("ports that echoed", guest.values("echoed"), ["console", "echo"] * times)
    row.same("1 MiB to the guest", guest.values("bulk-in"), guest.values("bulk-sent"))
    for port in (port for port in guest.ports.values() if port.transfer):
        row.same("bytes from the guest", len(port.received), MIB)
    row.same("1 MiB from the guest", guest.values("bulk-received"), guest.values("bulk-out"))
    row.same("bulk transfers", len(guest.values("bulk-out")), times)
    row.facts["console"] = "2 nonces echoed, 1 MiB each way with equal checksums"


def verify_flood(row, guest, times):
    for kib in guest.values("private-kib"):
        row.check(int(kib) < 64 << 10, f"tenon holds {kib} KiB of its own beside a reader that is stuck")


def verify_rng(row, guest, times):
    row.check(guest.values("rng-device")[0].startswith("virtio_rng"), "hw_random uses another device")
    reads = [fields(text) for text in guest.values("rng")]
    row.same("random reads", len(reads), 2 * times)
    for read in reads:
        row.same("random bytes", read["bytes"], "4096")
        row.check(int(read["distinct"]) > 240, f"{read['distinct']} distinct values in 4096 random bytes")
    row.same("different random blocks", len({read["sha256"] for read in reads}), 2 * times)
    row.facts["rng"] = f"4096 bytes, {reads[0]['distinct']} distinct values, sha256 {reads[0]['sha256']}"


def verify_rebind(row, guest, times):
    rebound = guest.values("rebound")
    row.same("devices unbound and bound (virtio)", len([d for d in rebound if d != "virtio-pci"]),
             guest.device_count * times)
    row.same("devices unbound and bound (PCI)", rebound.count("virtio-pci"), guest.device_count * times)


def verify_cpus(row, guest, times):
    count = int(guest.values("cpus")[0])
    row.facts["cpus"] = count
    expected = [f"{cpu} {sha256(row.disks['data'])}  -" for cpu in range(count)]
    row.same("what each processor read", guest.values("cpu"), expected)


def verify_memory(row, guest, times):
    ranges = [re.match(r"([0-9a-f]+)-([0-9a-f]+) ", text) for text in guest.values("ram")]
    high = sum(int(r[2], 16) + 1 - int(r[1], 16) for r in ranges if int(r[1], 16) >= 1 << 32)
    row.check(high >= 2 << 30, f"{high} bytes of RAM above 4 GiB")
    pages = int(guest.values("high-pages")[0])
    wanted = 8 * len(row.disks["data"]) // 4096
    row.check(pages >= wanted * 0.9, f"{pages} pages above 4 GiB were used, expected {wanted}")
    row.same("copies above 4 GiB", guest.values("copy"), [sha256(row.disks["data"])] * 2)


def verify_button(row, guest, times):
    row.same("power button", guest.values("button"), ["pressed"])


# The rows.

def all_devices(row):
    """One of each device, with what DEVICE_STEPS need."""
    ports = "".join(f",port={name}:socket:{row.path(name)}.socket:server"
                    for name in ("echo", "bulk", "stuck"))
    return [
        f"virtio-blk,{row.disk('data')},serial=data",
        f"virtio-blk,{row.disk('scratch', 8 * MIB)},serial=scratch",
        f"virtio-blk,{row.disk('fixed', MIB)},serial=fixed,ro",
        f"virtio-net,tap={row.tap()},mac=52:54:00:7e:00:0{row.lab.worker}",
        f"virtio-console,socket:{row.path('console')}.socket:server{ports}",
        "virtio-rng",
    ]


def device_row(row, *append):
    guest = row.guest("lab", all_devices(row), DEVICE_STEPS, append=" ".join(append))
    guest.finish()
    card = fields(guest.values("card")[0])
    row.same("MAC address", card["mac"], f"52:54:00:7e:00:0{row.lab.worker}")


@row
def modern_msix(row):
    device_row(row)


@row
def demo(row):
    """What `make demo` shows; not part of the matrix, which has all of it in modern-msix."""
    device_row(row)


@row
def modern_intx(row):
    device_row(row, NOMSI)


@row
def legacy_msix(row):
    device_row(row, LEGACY)


@row
def legacy_intx(row):
    device_row(row, LEGACY, NOMSI)


@row
def interface_options(row):
    """legacy=off and modern=off, side by side in one guest, and a slot of one's choice."""
    devices = [f"virtio-blk,{row.disk('modern', MIB)},serial=modern,legacy=off",
               f"virtio-blk,{row.disk('legacy', MIB)},serial=legacy,modern=off", "7,virtio-rng"]
    guest = row.guest("lab", devices, ["lspci", "disks"])
    guest.versions = {"0", "1"}
    guest.finish()
    row.same("VERSION_1", [fields(text)["features"][32] for text in guest.values("virtio")],
             ["1", "0", "1"])
    virtio = [line for line in guest.values("lspci") if "1af4" in line]
    row.same("PCI device ids", [re.search(r"\[1af4:(\w+)\]", line)[1] for line in virtio],
             ["1042", "1001", "1005"])
    row.same("slot of virtio-rng", virtio[-1].split()[0], "00:07.0")


@row
def pvh(row):
    """The ELF kernel out of Debian's bzImage, through its PVH entry."""
    guest = row.guest("lab", [f"virtio-blk,{row.disk('data')},serial=data"], ["lspci", "disks"],
                      kernel="vmlinux")
    guest.finish()


@row
def smp4(row):
    """Four processors, and an interface that was there before and stays."""
    tap = row.tap()
    subprocess.run(("busybox", "tunctl", "-t", tap), check=True, stdout=subprocess.DEVNULL)
    try:
        devices = [f"virtio-blk,{row.disk('data')},serial=data,queues=4",
                   f"virtio-net,tap={tap}", "virtio-rng"]
        guest = row.guest("lab", devices, ["lspci", "cpus", "disks", "net", "rng", "irq"], cpus=4)
        guest.kept_taps.add(tap)
        guest.finish()
        row.same("processors", row.facts.get("cpus"), 4)
        row.check(os.path.exists(f"/sys/class/net/{tap}"), f"interface {tap} was removed")
    finally:
        subprocess.run(("busybox", "tunctl", "-d", tap), check=False, stdout=subprocess.DEVNULL)


@row
def memory_6g(row):
    devices = [f"virtio-blk,{row.disk('data', 16 * MIB)},serial=data"]
    guest = row.guest("lab", devices, ["memory", "disks"], memory="6G")
    guest.finish()
    row.check(int(guest.values("memtotal")[0]) > 5 << 20, f"MemTotal: {guest.values('memtotal')}")


def thirty_devices(row, append=""):
    devices = [f"virtio-blk,{row.disk(f'disk{n}', 256 << 10)},serial=disk{n}" for n in range(20)]
    devices += [f"virtio-net,tap={row.tap(card)}" for card in range(4)]
    devices += [f"virtio-console,socket:{row.path('console')}{n}.socket:server" for n in range(2)]
    devices += ["virtio-rng"] * 4
    guest = row.guest("lab", devices, ["lspci", "disks", "net", "rng", "irq"], append=append)
    guest.finish()


@row
def thirty_devices_msix(row):
    thirty_devices(row)


@row
def thirty_devices_intx(row):
    thirty_devices(row, NOMSI)


@row
def disk_changes(row):
    """Discard, write zeroes, and a disk that grows while it is used."""
    devices = [f"virtio-blk,{row.disk('scratch', 8 * MIB)},serial=scratch"]
    row.guest("lab", devices, ["discard", "resize"]).finish()


@row
def link_state(row):
    devices = [f"virtio-net,tap={row.tap()}"]
    row.guest("lab", devices, ["net", "link", "net"]).finish()


@row
def stuck_reader(row):
    """A port whose reader sleeps stops neither the VM nor makes tenon grow."""
    row.guest("lab", all_devices(row), ["flood", "disks", "net", "ports"]).finish()


def rebind_row(row, append=""):
    steps = ["disks", "net", "ports", "rebind", "disks", "net", "ports", "rng", "rebind", "lspci", "disks", "rng"]
    row.guest("lab", all_devices(row), steps, append=append).finish()


@row
def rebind_modern(row):
    rebind_row(row)


@row
def rebind_legacy(row):
    rebind_row(row, LEGACY)


@row
def ten_reboots(row):
    row.deadline += ROW_SECONDS
    devices = [f"virtio-blk,{row.disk('data', MIB)},serial=data",
               f"virtio-blk,{row.path('scratch')},serial=scratch", f"virtio-net,tap={row.tap()}", "virtio-rng"]
    with open(row.path("scratch"), "wb") as file:
        file.truncate(MIB)
    guest = row.guest("lab", devices, ["reboots", "net", "rng"], append="lab_reboots=10")
    guest.finish()
    digest = sha256(row.disks["data"])
    row.same("boots", guest.values("boot"), [f"{number} {digest}" for number in range(1, 12)])
    row.same("count on the disk", row.disk_content("scratch")[:8], b"11      ")


@row
def sigterm(row):
    """SIGTERM presses the power button."""
    guest = row.guest("lab", [f"virtio-blk,{row.disk('data', MIB)},serial=data"], ["disks", "button"])
    guest.finish()


@row
def sigint(row):
    """SIGINT does the same."""
    guest = row.guest("lab", ["virtio-rng"], ["button"])
    guest.button = signal.SIGINT
    guest.finish()


@row
def sigterm_twice(row):
    """The guest ignores its button; a second SIGTERM ends the VM."""
    guest = row.guest("lab", ["virtio-rng"], ["deaf"])
    guest.run(until="answer")
    time.sleep(2)
    row.check(guest.process.poll() is None, "one SIGTERM ended the VM of a guest that ignores it")
    asked = time.monotonic()
    guest.process.send_signal(signal.SIGTERM)
    guest.finish(5)
    row.check(time.monotonic() - asked < 5, f"it took {time.monotonic() - asked:.1f} s")


@row
def no_reboot(row):
    """With --no-reboot a guest's reset ends tenon, with its own exit status."""
    guest = row.guest("lab", ["virtio-rng"], ["rng"], end="reboot", options=["--no-reboot"])
    guest.finish(3)


@row
def crash(row):
    """A triple fault ends tenon with its own exit status."""
    guest = row.guest("lab", ["virtio-rng"], ["rng"], end="reboot", append="reboot=t",
                      options=["--no-reboot"])
    guest.finish(4)


@row
def debug_exit(row):
    """What the guest writes to port 0xF4 is in tenon's exit status."""
    row.guest("lab", ["virtio-rng"], ["exit"], options=["--debug-exit"]).finish(64 + 7)


@row
def locked_disk(row):
    """Two VMs cannot write one disk, two can read one."""
    written, read = row.disk("written", MIB), row.disk("read", MIB)
    first = row.guest("first", [f"virtio-blk,{written},serial=written",
                                f"virtio-blk,{read},serial=read,ro"], ["button"])
    first.run(until="init")
    refused(row, ["-s", f"virtio-blk,{written}"], written)
    del row.disks["written"], row.disks["read"]
    row.disks["fixed"] = row.disk_content("read")
    row.guest("second", [f"virtio-blk,{read},serial=fixed,ro"], ["disks"]).finish()
    first.finish()


def tenon_command(row, *arguments, prefix=()):
    return subprocess.run([*prefix, row.lab.tenon, *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=20)


def refused(row, arguments, word, kernel=True, prefix=()):
    """tenon must refuse @arguments: status 2 and one line that has @word in it."""
    image = ["-k", row.lab.image("vmlinuz")] if kernel else []
    run = tenon_command(row, "run", *image, *arguments, "refused", prefix=prefix)
    what = " ".join(arguments)
    row.same(f"exit status of {what}", run.returncode, 2)
    row.check(run.stderr.count("\n") == 1 and word in run.stderr,
              f"message about {what}: {run.stderr!r}, expected one line with {word!r}")
    row.same(f"output of {what}", run.stdout, "")


@row
def mistakes(row):
    """Each mistake: exit status 2, one line that names the thing, nothing left behind."""
    disk = row.disk("data", MIB)
    for arguments, word in (
            (["-s", "virtio-nothing"], "virtio-nothing"),
            (["-s", f"virtio-blk,{disk},colour=red"], "colour"),
            (["-s", "virtio-blk,/nowhere/disk"], "/nowhere/disk"),
            (["-s", "virtio-blk"], "virtio-blk"),
            (["-s", "3,virtio-rng", "-s", "3,virtio-rng"], "3"),
            (["-s", f"virtio-blk,{disk},legacy=maybe"], "maybe"),
            (["-s", f"virtio-net,tap={row.tap()},mac=nonsense"], "nonsense"),
            (["-m", "lots"], "lots"),
            (["-c", "99"], "99"),
            (["-l", "com1,carrier-pigeon"], "carrier-pigeon"),
            (["--frobnicate"], "frobnicate"),
            (["-r", "/nowhere/ramdisk"], "/nowhere/ramdisk")):
        refused(row, arguments, word)
    refused(row, ["-k", "/nowhere/kernel"], "/nowhere/kernel", kernel=False)
    refused(row, ["-k", disk], disk, kernel=False)
    hidden = ("busybox", "unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev && exec "$@"', "sh")
    refused(row, [], "/dev/kvm", prefix=hidden)
    # What the first devices made is undone when the last one fails.
    made = row.path("made.socket")
    refused(row, ["-s", f"virtio-net,tap={row.tap()}", "-s", f"virtio-console,socket:{made}:server",
                  "-s", "virtio-blk,/nowhere/disk"], "/nowhere/disk")
    row.check(not os.path.exists(made), "a socket is left")
    row.check(not os.path.exists(f"/sys/class/net/{row.tap()}"), "an interface is left")


@row
def help_texts(row):
    for arguments, word in ((("help",), "run"), (("version",), "tenon"), (("devices",), "virtio-rng"),
                            (("run", "-s", "help"), "virtio-net"), (("run", "-s", "virtio-blk,help"), "serial")):
        run = tenon_command(row, *arguments)
        row.same(f"exit status of {arguments}", run.returncode, 0)
        row.check(word in run.stdout, f"{arguments}: no {word!r} in {run.stdout!r}")


class Lab:
    """The protocol of `rows.py serve`."""

    def __init__(self, folder, tenon, worker):
        self.folder = folder
        self.tenon = tenon
        self.worker = worker

    def image(self, name):
        return os.path.join(self.folder, name)

    def emit(self, event, **values):
        print(json.dumps({"event": event, **values}), flush=True)

    def stage(self, name, text):
        self.emit("stage", row=name, text=text)

    def do(self, name):
        started = time.monotonic()
        row = Row(name, self)
        try:
            ROWS[name](row)
        except RowFailed as failure:
            row.failures.append(str(failure))
        except Exception as error:  # whatever it is, the other rows must run
            trace = error.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            row.failures.append(f"{type(error).__name__}: {error} (rows.py, line {trace.tb_lineno})")
        finally:
            row.clean_up()
        for guest in row.guests:
            facts = [f"{fact} {text}" for fact, text in guest.said]
            text = "\n".join([*guest.log, "--- standard error:", guest.stderr(), "--- facts:", *facts])
            self.emit("log", row=name, text=text)
        self.emit("result", row=name, failures=row.failures, facts=row.facts,
                  seconds=round(time.monotonic() - started, 1))

    def serve(self):
        self.emit("ready")
        for line in sys.stdin:
            self.do(line.strip())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    here = os.path.dirname(os.path.abspath(__file__))
    Lab(os.environ.get("LAB_IMAGES", here), os.environ.get("LAB_TENON", os.path.join(here, "tenon")),
        int(os.environ.get("LAB_WORKER", "0"))).serve()
