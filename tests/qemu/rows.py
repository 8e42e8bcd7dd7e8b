# SPDX-License-Identifier: BSD-3-Clause
"""rows.py: blk, net and rng of tenon behind QEMU's vhost-user front ends, under a stock kernel's drivers."""

import re
import socket
import threading
import time

from machine import Machine
from serving import check, pattern, sha256, wait_until

MIB = 1 << 20
KILLS = 10


def block_device(number, path, options="", reconnect=""):
    return ("-chardev", f"socket,id=blk{number},path={path}{reconnect}",
            "-device", f"vhost-user-blk-pci,chardev=blk{number}{options}")


def image_has(disk, text):
    """The guest's last words on the disk are what the image is: SUM NAME sha256."""
    said = re.search(rf"SUM {disk.name} ([0-9a-f]{{64}})", text)
    check(said, f"no checksum of {disk.name}")
    check(sha256(disk.read_bytes()) == said[1], f"{disk.name} is not what the guest reads")


def block(row):
    """Split and packed rings, one queue and several; the image is what the guest wrote."""
    first = pattern(MIB, row.name)
    disks = [row.disk(name, 24 * MIB, first) for name in ("split", "packed", "queues")]
    server = row.serve(*(f"virtio-blk,path={disk}{options}" for disk, options in
                         zip(disks, ("", ",packed=on", ",queues=4,packed=on"))))
    front_ends = (",num-queues=1", ",num-queues=1,packed=on", ",num-queues=4,packed=on")
    devices = [word for number, options in enumerate(front_ends)
               for word in block_device(number, server.sockets[number], options)]
    script = ""
    for letter, disk in zip("abc", disks):
        script += f"""
test "$(head -c {MIB} /dev/vd{letter} | sha256sum)" = "{sha256(first)}  -"
blockload /dev/vd{letter} 2 32
echo SUM {disk.name} $(sha256sum </dev/vd{letter})
"""
    # Bits of the negotiated features: 12 is several queues, 34 packed rings.
    script += """
test $(ls /sys/block/vdc/mq | wc -l) -ge 2
features() { cut -c $(($2 + 1)) /sys/block/$1/device/features; }
test $(features vda 34) = 0
test $(features vdb 34) = 1
test $(features vdc 34) = 1
test $(features vdc 12) = 1
"""
    machine = Machine(row, "guest", devices, script)
    machine.finish()
    server.stop()
    for disk in disks:
        image_has(disk, machine.text())


def killed(row, name, option):
    """
    tenon dies and is started again, ten times, under verified writes of a guest that must not see any
    of it: what was in flight is found in the memory that QEMU keeps (INFLIGHT).
    """
    disk = row.disk(name, 24 * MIB)
    server = row.serve(f"virtio-blk,path={disk},queues=2{option}")
    devices = block_device(0, server.sockets[0], f",num-queues=2{option}", ",reconnect=1")
    script = f"""
blockload /dev/vda {KILLS * 2.2:.0f} 32
echo SUM {name} $(sha256sum </dev/vda)
"""
    machine = Machine(row, "guest", devices, script)
    machine.wait_for(r"progress: \d\d+", 60)
    for number in range(KILLS):
        server.kill()
        time.sleep(0.02 * number)
        server.start()
        seen = len(re.findall("progress:", machine.text()))
        # Two of them: the first may have been on its way.
        machine.wait_for("progress:", 20, seen + 2)
        check(not re.search("blockload:|I/O error|verified", machine.text()),
              f"after kill {number + 1}: {machine.tail()}")
    machine.finish()
    server.stop()
    image_has(disk, machine.text())


def killed_split(row):
    killed(row, "split", "")


def killed_packed(row):
    killed(row, "packed", ",packed=on")


class Peer:
    """A server on the host: takes a stream and sums it up, or gives one."""

    def __init__(self, row, address, give=b""):
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        self.give, self.sum = give, None
        self.listener.settimeout(90)
        row.on_end(self.listener.close)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            stream, _ = self.listener.accept()
            stream.settimeout(60)
            with stream:
                if self.give:
                    stream.sendall(self.give)
                    return
                data = bytearray()
                while more := stream.recv(1 << 20):
                    data += more
                self.sum = sha256(data)
        except OSError as error:
            self.sum = str(error)


def net(row, device, options, server):
    """
    Streams both ways between the guest and the host that tenon's NAT leads to. Without MSI-X: QEMU 7.2
    takes it for granted that its vhost-user-net has KVM's irqfd, and crashes.
    """
    size = 6 * MIB
    down, up = pattern(size, "down"), pattern(size, "up")
    giver, taker = Peer(row, "127.0.0.1", down), Peer(row, "127.0.0.1")
    devices = ("-chardev", f"socket,id=net,path={server.sockets[0]}", "-netdev",
               f"vhost-user,id=net,chardev=net{options}", "-device",
               f"virtio-net-pci,netdev=net,vectors=0,mac=52:54:00:00:00:01{device}")
    script = f"""
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ping -c 1 -W 5 10.0.2.2
test "$(nc 10.0.2.2 {giver.port} </dev/null | sha256sum)" = "{sha256(down)}  -"
nc 10.0.2.2 {taker.port} </up >/dev/null
echo FEATURES $(cat /sys/class/net/eth0/device/features)
"""
    machine = Machine(row, "guest", devices, script, files=[("up", up)])
    machine.finish()
    wait_until(lambda: taker.sum, 10, "the guest's stream does not end")
    check(taker.sum == sha256(up), f"the host got other bytes: {taker.sum}")
    features = machine.wait_for(r"FEATURES ([01]+)", 1)[1]
    check((features[34] == "1") == ("packed=on" in device), "packed rings: not as asked for")
    server.stop()


def net_split(row):
    net(row, "", "", row.serve("virtio-net,backend=user"))


def net_packed(row):
    net(row, ",packed=on", "", row.serve("virtio-net,backend=user,packed=on"))


def rng(row):
    """The kernel's generator is fed by tenon's, and what comes is random."""
    server = row.serve("virtio-rng")
    devices = ("-chardev", f"socket,id=rng,path={server.sockets[0]}", "-device",
               "vhost-user-rng-pci,chardev=rng")
    script = """
grep virtio_rng /sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng of=/random bs=1k count=64 iflag=fullblock
# What is random cannot be packed, and what is different each time is not a constant.
test $(gzip -c /random | wc -c) -gt 65536
dd if=/dev/hwrng of=/other bs=1k count=64 iflag=fullblock
must_fail cmp -s /random /other
"""
    Machine(row, "guest", devices, script).finish()
    server.stop()


ROWS = {"blk-kill-split": killed_split, "blk-kill-packed": killed_packed, "blk": block,
        "net": net_split, "net-packed": net_packed, "rng": rng}
