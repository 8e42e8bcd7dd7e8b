# SPDX-License-Identifier: BSD-3-Clause
"""checks.py: what each step of the guest must have reported; verify_STEP(row, guest, times).

@times is how often the guest did the step. Each compares contents with what the host knows, and
leaves in row.facts what a person may want to see.
"""

import hashlib
import os
import re

MIB = 1 << 20
# CSUM, GUEST_CSUM, MAC, GUEST_TSO4, HOST_TSO4, MRG_RXBUF, STATUS, CTRL_VQ
NET_FEATURES = (0, 1, 5, 7, 11, 15, 16, 17)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


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
            missing = [bit for bit in NET_FEATURES if device["features"][bit] == "0"]
            missing = [bit for bit in missing if bit not in guest.lacks]
            row.check(not missing, f"virtio-net lacks feature bits {missing}")
    for late in guest.rtc_late:
        row.check(abs(late) < 60, f"the RTC is {late:.0f} s late")


def verify_irq(row, guest, times):
    lines = guest.values("irq")
    chip = "PCI-MSIX" if guest.msi else "IO-APIC" if guest.ioapic else "XT-PIC"
    row.facts["interrupts"] = chip
    for line in lines:
        row.check(chip in line, f"interrupt is not {chip}: {line}")
    for number in range(guest.device_count):
        # One line a vector with MSI-X; on a shared line one line with all names.
        of_device = [line for line in lines if re.search(rf"virtio{number}\b", line)]
        row.check(of_device, f"virtio{number} has no interrupt")
    # "24:  counts of each processor  chip ...": something must have come.
    row.check(any(re.match(r"\d+:(\s+0)*\s+[1-9]", line) for line in lines),
              "no interrupt was counted")


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
    row.facts["disks"] = [f"{serial}: {len(content)} bytes, sha256 {seen[serial][0]['sha256']}"
                          for serial, content in row.disks.items() if serial in seen]


def verify_write(row, guest, times):
    row.same("read back after writing", guest.values("written"),
             [sha256(row.disks["data"])] * times)
    expected = bytearray(row.disks["scratch"])
    expected[MIB:5 * MIB] = row.disks["data"]
    row.same("scratch disk on the host", sha256(row.disk_content("scratch")), sha256(expected))
    data = row.disks["data"]
    row.facts["written"] = f"scratch: {len(data)} bytes, sha256 {sha256(data)}"


def verify_readonly(row, guest, times):
    row.same("write to the read-only disk", guest.values("readonly"), ["refused"] * times)
    row.check(row.disk_content("fixed") == row.disks["fixed"], "the read-only disk was changed")


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
    sector = row.disk_content("scratch")[before + MIB - 512:]
    row.same("the new last sector", sector[:len(text)], text)


def verify_net(row, guest, times):
    for thread in guest.transfers:
        thread.join(10)
    pings = guest.values("ping")
    row.same("cards that pinged", len(pings), guest.cards * times)
    for text in pings:
        row.check(" 3 packets received" in text, f"ping of the host: {text}")
    row.same("answers to the host's pings", guest.values("pinged"), ["3"] * guest.cards * times)
    for mine, other in (("uploaded", "upload-seen"), ("download-sent", "downloaded")):
        more = len(guest.values("queues")) * 2  # one a processor
        row.same(f"transfers {mine}", len(guest.values(mine)), times + more)
        row.same(f"checksums {mine}, {other}", guest.values(other), guest.values(mine))
    for sizes in guest.values("frame-size"):
        # How large TCP makes segments depends on the pace; without offload none is over the MTU.
        row.check(max(map(int, sizes.split())) > 1600,
                  f"frames of {sizes} bytes: no segmentation offload")
        up, down = sizes.split()
        row.facts["net"] = ("4 MiB each way with equal checksums, frames of "
                            f"{up} bytes up and {down} down on average")
    row.facts["ping"] = pings[0] if pings else "none"


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
        row.check(int(kib) < 64 << 10, f"beside a stuck reader tenon has {kib} KiB of its own")


def verify_rng(row, guest, times):
    device = guest.values("rng-device")[0]
    row.check(device.startswith("virtio_rng"), f"hw_random uses {device}")
    reads = [fields(text) for text in guest.values("rng")]
    row.same("random reads", len(reads), 2 * times)
    for read in reads:
        row.same("random bytes", read["bytes"], "4096")
        row.check(int(read["distinct"]) > 240,
                  f"{read['distinct']} distinct values in 4096 random bytes")
    row.same("different random blocks", len({read["sha256"] for read in reads}), 2 * times)
    row.facts["rng"] = (f"4096 bytes, {reads[0]['distinct']} distinct values, "
                        f"sha256 {reads[0]['sha256']}")


def verify_rebind(row, guest, times):
    rebound, expected = guest.values("rebound"), guest.device_count * times
    on_pci = rebound.count("virtio-pci")
    row.same("devices unbound and bound (virtio)", len(rebound) - on_pci, expected)
    row.same("devices unbound and bound (PCI)", on_pci, expected)


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
