# SPDX-License-Identifier: BSD-3-Clause
"""port.py: a program that plays the guest's processor: the line protocol of doc/test-port.md."""

import socket
import sys
import time

# Registers (virtio 1.4, 4.1.4.3)
FEATURE_SELECT, FEATURES, STATUS, GENERATION = 0x08, 0x0c, 0x14, 0x15
QUEUE_SELECT, QUEUE_SIZE, QUEUE_VECTOR, QUEUE_ENABLE, QUEUE_ADDRESSES = 0x16, 0x18, 0x1a, 0x1c, 0x20
DEVICE_CONFIG, NOTIFY = 0x2000, 0x3000

VERSION_1 = 1 << 32


class Client:
    """The guest's processor, and one PCI device that it looks at."""

    def __init__(self, path, slot):
        self.device = 0x80000000 | slot << 11  # for port CF8; bus 0
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while self.socket.connect_ex(path):
            if time.monotonic() > deadline:
                sys.exit(f"nobody listens at {path}")
            time.sleep(0.05)
        self.lines = self.socket.makefile("r")

    def ask(self, *words):
        self.socket.sendall((" ".join(str(word) for word in words) + "\n").encode())
        answer = self.lines.readline().split()
        if not answer or answer[0] != "OK":
            sys.exit(f"{words}: {answer}")
        return int(answer[1], 0) if len(answer) == 2 else None

    def config(self, offset):
        self.ask("outl", "0xcf8", self.device + offset)
        return self.ask("inl", "0xcfc")

    def set_config(self, offset, value):
        self.ask("outl", "0xcf8", self.device + offset)
        self.ask("outl", "0xcfc", value)

    def put(self, address, data):
        self.ask("write", address, len(data), "0x" + data.hex())

    def power_off(self):
        """Soft off, by the PM1 control register."""
        self.ask("outw", "0x604", 0x3400)

    @staticmethod
    def expect(what, seen, expected):
        if seen != expected:
            sys.exit(f"{what}: {seen:#x}, expected {expected:#x}")

    def msix_capability(self):
        """Where the MSI-X capability is in configuration space."""
        offset = self.config(0x34) & 0xff
        while self.config(offset) & 0xff != 0x11:
            offset = self.config(offset) >> 8 & 0xff
        return offset

    def modern_bar(self):
        """Enable memory and bus mastering; the address of the registers of virtio 1.4."""
        self.set_config(0x04, 0x6)
        return self.config(0x20) & ~0xf | self.config(0x24) << 32

    def start(self, bar, features, queues=()):
        """
        What a driver does up to DRIVER_OK (virtio 1.4, 3.1.1). @queues: for queue 0 and on, size and
        the three addresses; each has its own MSI-X vector, the one after its number.
        """
        for status in (0, 1, 3):
            self.ask("writeb", bar + STATUS, status)
        for word in range(2):
            self.ask("writel", bar + FEATURE_SELECT, word)
            self.ask("writel", bar + FEATURES, features >> 32 * word & 0xffffffff)
        self.ask("writeb", bar + STATUS, 0xb)
        for index, (size, *addresses) in enumerate(queues):
            self.ask("writew", bar + QUEUE_SELECT, index)
            self.ask("writew", bar + QUEUE_SIZE, size)
            self.ask("writew", bar + QUEUE_VECTOR, index + 1)
            for number, address in enumerate(addresses):
                self.ask("writeq", bar + QUEUE_ADDRESSES + 8 * number, address)
            self.ask("writew", bar + QUEUE_ENABLE, 1)
        self.ask("writeb", bar + STATUS, 0xf)
