# SPDX-License-Identifier: BSD-3-Clause
"""rows.py: the rows of the lab's matrix, each a function of a Row."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from checks import MIB, fields, sha256
from guest import LEGACY, NOAPIC, NOMSI, ROW_SECONDS, Guest

DEVICE_STEPS = ("lspci", "disks", "write", "readonly", "net", "ports", "rng", "irq")

ROWS = {}
# Rows that are about one port only, or about what no port has a part in: headers of frames.
ONLY = {"hsmd-abi": "acrn", "killed": "acrn", "vbs-k": "acrn", "own-timers": "kvm",
        "vhost-net-modern-unmerged": "kvm", "vhost-net-legacy": "kvm",
        "vhost-net-switch-legacy": "kvm"}
HIDDEN_ROWS = ("demo", "bench-user", "bench-vhost")


def row(function):
    """Register a row of the matrix under its function's name."""
    ROWS[function.__name__.replace("_", "-")] = function
    return function


class Row:
    """One row while it runs: its folder, disks, interfaces, guests, and what went wrong."""

    def __init__(self, name, port, lab):
        self.name = name
        self.port = port
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


def console(row):
    ports = "".join(f",port={name}:socket:{row.path(name)}.socket:server"
                    for name in ("echo", "bulk", "stuck"))
    return f"virtio-console,socket:{row.path('console')}.socket:server{ports}"


def all_devices(row):
    """One of each device, with what DEVICE_STEPS need."""
    return [
        f"virtio-blk,{row.disk('data')},serial=data",
        f"virtio-blk,{row.disk('scratch', 8 * MIB)},serial=scratch",
        f"virtio-blk,{row.disk('fixed', MIB)},serial=fixed,ro",
        f"virtio-net,tap={row.tap()},mac=52:54:00:7e:00:0{row.lab.worker}",
        console(row),
        "virtio-rng",
    ]


def device_row(row, *append, options="", hv=None):
    """All devices, each with @options; returns the feature bits that the guest accepted of each."""
    devices = [device + options for device in all_devices(row)]
    guest = row.guest("lab", devices, DEVICE_STEPS, append=" ".join(append),
                      options=("--hv", hv) if hv else ())
    guest.finish()
    card = fields(guest.values("card")[0])
    row.same("MAC address", card["mac"], f"52:54:00:7e:00:0{row.lab.worker}")
    return [fields(text)["features"] for text in guest.values("virtio")]


@row
def ten_reboots(row):
    """Ten guest reboots in one process. The longest row: first, so that no worker waits for it."""
    row.deadline += 2 * ROW_SECONDS
    devices = [f"virtio-blk,{row.disk('data', MIB)},serial=data",
               f"virtio-blk,{row.path('scratch')},serial=scratch",
               f"virtio-net,tap={row.tap()}", "virtio-rng"]
    with open(row.path("scratch"), "wb") as file:
        file.truncate(MIB)
    guest = row.guest("lab", devices, ["reboots", "net", "rng"], append="lab_reboots=10")
    guest.finish()
    digest = sha256(row.disks["data"])
    row.same("boots", guest.values("boot"), [f"{number} {digest}" for number in range(1, 12)])
    row.same("count on the disk", row.disk_content("scratch")[:8], b"11      ")


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
def pics(row):
    """The two PICs instead of the IOAPIC: INTx through the link devices and the router."""
    device_row(row, NOMSI, NOAPIC)


@row
def own_timers(row):
    """KVM without its PIT, and a guest whose only ticks are those of tenon's timers."""
    device_row(row, "nolapic_timer", "clocksource=hpet", hv="kvm,pit=user")


@row
def packed_rings(row):
    """Packed rings and the platform's DMA rules: bits 34 and 33."""
    accepted = device_row(row, options=",packed=on,access_platform=on")
    row.same("RING_PACKED and ACCESS_PLATFORM", {bits[34] + bits[33] for bits in accepted}, {"11"})


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


def sleep_row(row, *append, cpus=1):
    """Suspend to RAM, woken in each way there is; between them the devices work."""
    devices = [f"virtio-blk,{row.disk('data')},serial=data",
               f"virtio-blk,{row.disk('scratch', 8 * MIB)},serial=scratch",
               f"virtio-net,tap={row.tap()}", console(row), "virtio-rng"]
    row.deadline += ROW_SECONDS
    steps = ["net", "ports", "s3", "disks", "net", "ports", "write", "rng", "irq", "s3_rtc", "s3_button"]
    if row.port == "acrn":
        # With an HPET Linux reads the RTC 64 times a second while an alarm is set, which is all that
        # hsmd can do under emulated SVM. On KVM there is none.
        append = ("hpet=disable", *append)
    guest = row.guest("lab", devices, steps, append=" ".join(append), cpus=cpus,
                      options=["--control", row.path("control")])
    guest.finish()
    row.same("mem_sleep", guest.values("mem-sleep"), ["s2idle [deep]"])
    row.same("asleep", guest.values("asleep"), ["wake", "rtc", "button"])
    row.same("woken", guest.values("woken"), ["0"])
    row.same("slept", guest.values("slept"), ["wake 0 1", "rtc 0 2", "button 0 3"])
    row.same("button", guest.values("button"), ["pressed"])
    row.check(not os.path.exists(row.path("control")), "the control socket is left")


@row
def s3(row):
    sleep_row(row)


@row
def s3_intx_smp(row):
    sleep_row(row, NOMSI, cpus=2)


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


def tenon_control(row, path, *command):
    """What tenon answers on its control socket."""
    run = subprocess.run((row.lab.tenon, "control", path, *command), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    row.check(run.returncode == 0, f"control {' '.join(command)}: {run.stdout.strip()}")
    return run.stdout


def vhost_net(row, *append, options="", steps=("lspci", "net", "irq"), disks=(), vhost="on", **more):
    """A guest whose card the kernel serves; says so whenever the guest is pinged."""
    control = row.path("control")
    devices = [*disks, f"virtio-net,tap={row.tap()},vhost={vhost}{options}"]
    guest = row.guest("lab", devices, steps, append=" ".join(append),
                      options=("--control", control), **more)
    guest.control = control
    guest.lacks = {15} if "mrg_rxbuf=off" in options else set()

    def ping(address, ping=guest.answer_ping):
        row.check(f"vhost={vhost}" in tenon_control(row, control, "devices"), "wrong data plane")
        return ping(address)

    guest.answer_ping = ping
    return guest


@row
def vhost_net_modern(row):
    vhost_net(row).finish()


@row
def vhost_net_modern_unmerged(row):
    """12 bytes of header without MRG_RXBUF."""
    vhost_net(row, options=",mrg_rxbuf=off").finish()


@row
def vhost_net_legacy(row):
    vhost_net(row, LEGACY).finish()


@row
def vhost_net_legacy_unmerged(row):
    """The one driver with 10 bytes of header."""
    vhost_net(row, LEGACY, options=",mrg_rxbuf=off").finish()


@row
def vhost_net_intx(row):
    vhost_net(row, NOMSI).finish()


@row
def vhost_net_reboots(row):
    row.deadline += 2 * ROW_SECONDS
    with open(row.path("scratch"), "wb") as file:
        file.truncate(MIB)
    disks = [f"virtio-blk,{row.disk('data', MIB)},serial=data",
             f"virtio-blk,{row.path('scratch')},serial=scratch"]
    guest = vhost_net(row, "lab_reboots=10", disks=disks, steps=["reach", "reboots"])
    guest.finish()
    row.same("boots", len(guest.values("boot")), 11)
    row.same("pings", ["3 packets received" in text for text in guest.values("reached")], [True] * 11)
    row.same("answers to the host's pings", guest.values("pinged"), ["3"] * 11)


def vhost_net_switches(row, *append, options=""):
    """The data plane changes hands 100 times under a stream."""
    row.deadline += 2 * ROW_SECONDS
    guest = vhost_net(row, *append, options=options, vhost="off", steps=["lspci", "stream", "irq"])
    state = {"thread": None, "done": 0}

    def switch():
        for number in range(100):
            tenon_control(row, guest.control, "vhost", ("on", "off")[number % 2], "virtio-net")
            state["done"] += 1
            time.sleep(0.2)

    def stream():
        if not state["thread"]:
            state["thread"] = threading.Thread(target=switch, daemon=True)
            state["thread"].start()
        return "more" if state["thread"].is_alive() else "done"

    guest.answer_stream = stream
    guest.finish()
    row.same("switches", state["done"], 100)
    row.check(len(guest.values("uploaded")) > 1, "no more than one transfer meanwhile")
    for thread in guest.transfers:
        thread.join(10)
    for mine, other in (("uploaded", "upload-seen"), ("download-sent", "downloaded")):
        row.same(f"checksums {mine}, {other}", guest.values(other), guest.values(mine))
    row.facts["transfers"] = len(guest.values("uploaded"))


@row
def vhost_net_switch(row):
    vhost_net_switches(row)


@row
def vhost_net_switch_legacy(row):
    vhost_net_switches(row, LEGACY, options=",mrg_rxbuf=off")


def queues_row(row, options):
    """As many pairs as processors, each used."""
    guest = vhost_net(row, steps=["lspci", "net", "queues", "irq"], cpus=2, **options)
    guest.finish()
    row.same("pairs", guest.values("queues"), ["2"])
    for mine, other in (("uploaded", "upload-seen"), ("download-sent", "downloaded")):
        row.same(f"checksums {mine}, {other}", guest.values(other), guest.values(mine))
    row.same("transfers", len(guest.values("uploaded")), 3)
    used = [line for line in guest.values("irq") if re.search(r"put\.[01]$", line)]
    row.same("queues' interrupts", len(used), 4)
    for line in used:
        row.check(sum(map(int, line.split()[1:3])) > 0, f"never came: {line}")


@row
def net_queues(row):
    queues_row(row, {"options": ",queues=2", "vhost": "off"})


@row
def vhost_net_queues(row):
    queues_row(row, {"options": ",queues=2,busyloop=50"})


@row
def vsock(row):
    """64 MiB each way through the kernel's vsock, echoed by the other side."""
    cid, port = 42 + row.lab.worker, 2000 + row.lab.worker
    program = row.lab.image("vsock-echo")
    ends = [subprocess.Popen((program, *words), stdout=subprocess.PIPE, text=True)
            for words in (("serve", str(port)), ("send", str(cid), "1001", "64"))]
    guest = row.guest("lab", [f"virtio-vsock,cid={cid}"], ["lspci", "vsock"],
                      append=f"lab_vsock=64 lab_vsock_port={port}")
    try:
        guest.finish()
        texts = [end.communicate(timeout=60)[0] for end in ends]
    finally:
        for end in ends:
            end.kill()
    texts += guest.values("vsock-sent") + guest.values("vsock-served")
    sums = [re.findall(r"\b67108864 ([0-9a-f]{16})\b", text) for text in texts]
    row.same("ends that moved 64 MiB", len(sum(sums, [])), 4)
    row.same("checksums", len(set(sum(sums, []))), 1)


def write_file(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Target:
    """A file as a SCSI target of the kernel's vhost-scsi."""

    def __init__(self, path, size, worker):
        base = "/sys/kernel/config/target"
        if not os.path.exists(base):
            subprocess.run(("busybox", "mount", "-t", "configfs", "configfs", "/sys/kernel/config"),
                           check=True)
        self.wwpn = f"naa.600140554cf3a18{worker:x}"
        self.core = f"{base}/core/fileio_{worker}"
        self.disk = f"{self.core}/disk"
        self.vhost = f"{base}/vhost/{self.wwpn}"
        self.group = f"{self.vhost}/tpgt_1"
        self.unit = f"{self.group}/lun/lun_0"
        os.makedirs(self.disk)
        write_file(f"{self.disk}/control", f"fd_dev_name={path},fd_dev_size={size}")
        write_file(f"{self.disk}/enable", "1")
        os.makedirs(self.unit)
        write_file(f"{self.group}/nexus", f"naa.60014059811d88{worker:02x}")
        os.symlink(self.disk, f"{self.unit}/disk")

    def remove(self):
        os.unlink(f"{self.unit}/disk")
        write_file(f"{self.group}/nexus", "NULL")
        for path in (self.unit, self.group, self.vhost, self.disk, self.core):
            os.rmdir(path)


@row
def scsi(row):
    """A disk through the kernel's vhost-scsi, two request queues."""
    size = 16 * MIB
    target = Target(row.disk("scsi", size), size, row.lab.worker)
    try:
        content = row.disks.pop("scsi")
        guest = row.guest("lab", [f"virtio-scsi,wwpn={target.wwpn},queues=2"],
                          ["lspci", "scsi", "irq"], cpus=2)
        guest.finish()
    finally:
        target.remove()
    row.same("disk as read", guest.values("scsi"),
             [f"sectors={size // 512} sha256={sha256(content)}"])
    row.same("disk as written", guest.values("scsi-written"), [sha256(row.disk_content("scsi"))])
    row.check(sha256(row.disk_content("scsi")) != sha256(content), "nothing was written")


@row
def vbs_k(row):
    """An entropy device whose ring a kernel module of VBS-K runs: a stand-in by CUSE."""
    stand_in = subprocess.Popen([row.lab.image("vbs-rng")], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not os.path.exists("/dev/vbs_rng") and time.monotonic() < deadline:
            time.sleep(0.1)
        guest = row.guest("lab", ["virtio-rng-kernel,/dev/vbs_rng"], ["lspci", "kernel_rng"])
        guest.versions = {"0"}  # VBS-K is older than virtio 1
        guest.finish()
    finally:
        stand_in.terminate()
        stand_in.wait(20)
    text = guest.values("kernel-rng")[0]
    row.check(text.startswith("virtio_rng"), f"hw_random uses {text!r}")
    row.check(text.count("vbs-k stand-in.") > 8, f"not the stand-in's text: {text!r}")


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
    steps = ["disks", "net", "ports", "rebind", "disks", "net", "ports", "rng", "rebind", "lspci",
             "disks", "rng"]
    row.guest("lab", all_devices(row), steps, append=append).finish()


@row
def rebind_modern(row):
    rebind_row(row)


@row
def rebind_legacy(row):
    rebind_row(row, LEGACY)


@row
def sigterm(row):
    """SIGTERM presses the power button."""
    devices = [f"virtio-blk,{row.disk('data', MIB)},serial=data"]
    row.guest("lab", devices, ["disks", "button"]).finish()


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
    row.check(time.monotonic() - asked < 20, f"it took {time.monotonic() - asked:.1f} s")


@row
def sigterm_ignored(row):
    """The guest ignores its button; after 30 s the VM ends."""
    guest = row.guest("lab", ["virtio-rng"], ["deaf"])
    guest.run(until="answer")
    asked = time.monotonic()
    guest.finish(5)
    seconds = time.monotonic() - asked
    row.check(25 < seconds < 60, f"it took {seconds:.1f} s")


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
    return subprocess.run([*prefix, row.lab.tenon, *arguments], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=20)


def refused(row, arguments, word, kernel=True, prefix=()):
    """tenon must refuse @arguments: status 2 and one line that has @word in it."""
    image = ["--hv", row.port] + (["-k", row.lab.image("vmlinuz")] if kernel else [])
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
    script = 'mount -t tmpfs tmpfs /dev && exec "$@"'
    refused(row, [], {"kvm": "/dev/kvm", "acrn": "/dev/acrn_hsm"}[row.port], prefix=("busybox", "unshare", "-m", "sh", "-c", script, "sh"))
    # What the first devices made is undone when the last one fails.
    made = row.path("made.socket")
    refused(row, ["-s", f"virtio-net,tap={row.tap()}", "-s", f"virtio-console,socket:{made}:server",
                  "-s", "virtio-blk,/nowhere/disk"], "/nowhere/disk")
    row.check(not os.path.exists(made), "a socket is left")
    row.check(not os.path.exists(f"/sys/class/net/{row.tap()}"), "an interface is left")


@row
def help_texts(row):
    for command, word in (("help", "run"), ("version", "tenon"), ("devices", "virtio-rng"),
                          ("run -s help", "virtio-net"), ("run -s virtio-blk,help", "serial")):
        arguments = command.split()
        run = tenon_command(row, *arguments)
        row.same(f"exit status of {command}", run.returncode, 0)
        row.check(word in run.stdout, f"{command}: no {word!r} in {run.stdout!r}")


def resources(pid):
    """What a process holds: threads, descriptors, and KiB of memory that is its own."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        own = int(re.search(r"RssAnon:\s+(\d+)", file.read())[1])
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), own


@row
def killed(row):
    """kill -9 of tenon at 50 random moments: the HSM serves on, and has let go of all of it."""
    row.deadline += 3 * ROW_SECONDS
    hsmd = row.lab.hsmd.process.pid
    disk = row.disk("data", MIB)
    counts = []
    for number in range(53):
        devices = [f"virtio-blk,{disk},serial=data", f"virtio-net,tap={row.tap()}", "virtio-rng"]
        guest = row.guest("killed", devices, ["disks"], memory="128M", cpus=1 + number % 2)
        time.sleep(random.uniform(0, 6 if number % 5 == 0 else 2))
        guest.kill()
        settled = time.monotonic() + 20
        while number > 2 and resources(hsmd)[:2] != counts[0][:2] and time.monotonic() < settled:
            time.sleep(0.1)
        # The first ones make what hsmd keeps (fuse's own threads).
        if number == 2:
            time.sleep(3)
        if number >= 2:
            counts.append(resources(hsmd))
    first, last = counts[0], counts[-1]
    row.same("threads and descriptors of hsmd", last[:2], first[:2])
    row.check(last[2] < first[2] + 512, f"hsmd has {last[2]} KiB of its own, {first[2]} at first")
    row.facts["hsmd"] = f"threads, descriptors, KiB: {first} at first, {last} after 50 kills"
    row.guest("after", [f"virtio-blk,{disk},serial=data", "virtio-rng"], ["disks", "rng"]).finish()


@row
def hsmd_abi(row):
    """The HSM's ABI by hand, errors and killed clients included: tests/hsmd."""
    hsmd = row.lab.hsmd
    run = subprocess.run((row.lab.image("hsmd_client"), "--hsmd", str(hsmd.process.pid), "--log",
                          hsmd.log), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         check=False, timeout=ROW_SECONDS)
    lines = run.stdout.splitlines()
    row.check(run.returncode == 0 and re.fullmatch(r"\d+ passed, 0 failed", lines[-1]),
              "; ".join([line for line in lines if line.startswith("FAIL")] + lines[-1:]))
    row.facts["hsmd-abi"] = lines[-1]


def bench(row, options):
    """What `tests/lab/bench` compares: round trips of accesses, packets a second."""
    devices = [f"virtio-net,tap={row.tap()}{options}", "virtio-rng"]
    guest = row.guest("lab", devices, ["trips", "rates"])
    guest.finish()
    for fact in ("pio", "mmio", "out", "in"):
        row.facts[fact] = guest.values("bench-" + fact)


@row
def bench_user(row):
    bench(row, "")


@row
def bench_vhost(row):
    bench(row, ",vhost")
