# SPDX-License-Identifier: BSD-3-Clause
"""net_rows.py: virtio-net under a stock driver: streams and datagrams over each kind of back end."""

import os
import shutil
import socket
import subprocess
import sys

from guest import NET, Guest
from kernels import NEWEST, get
from serving import PROJECT, Failure, Skip, check, output_of, wait_until

TRANSFER = PROJECT / "tests/uml/transfer.py"
IN_GUEST = f"/usr/bin/python3 -B {TRANSFER}"
MIB = 24
DATAGRAMS = 100
NOBODY = 65534


def interface(address):
    return f"ip link set lo up\nip addr add {address}/24 dev eth0\nip link set eth0 up\n"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Namespace:
    """A network of its own, in which tenon makes its tap and the host's end of a test runs."""

    def __init__(self, row):
        if os.geteuid() != 0:
            raise Skip("a network namespace and a tap need root")
        if not os.path.exists("/dev/net/tun"):
            raise Skip("there is no /dev/net/tun here")
        self.name = row.sockets.name
        output_of("ip", "netns", "add", self.name)
        row.on_end(output_of, "ip", "netns", "del", self.name)
        self.prefix = ("ip", "netns", "exec", self.name)


def host_end(row, *words, prefix=()):
    """transfer.py on the host."""
    with open(row.folder / "transfer.log", "ab") as log:
        process = subprocess.Popen((*prefix, sys.executable, "-B", TRANSFER, *map(str, words)),
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end():
        if process.poll() is None:
            process.kill()
            process.wait()

    row.on_end(end)
    return process


def check_ended(row, process):
    """The host's end found all as it should be."""
    try:
        status = process.wait(30)
    except subprocess.TimeoutExpired:
        status = None
    if status != 0:
        raise Failure("host: " + (row.folder / "transfer.log").read_text().strip()[-300:])


def tap(row, options=""):
    """A tap, both ways, large packets too."""
    space = Namespace(row)
    server = row.serve(f"virtio-net,tap=tap0{options}", prefix=space.prefix)
    output_of(*space.prefix, "ip", "addr", "add", "10.9.8.1/24", "dev", "tap0")
    output_of(*space.prefix, "ip", "link", "set", "tap0", "up")
    ready = row.folder / "listening"
    host = host_end(row, "listen", "10.9.8.1", 7000, "--mib", MIB, "--datagrams", DATAGRAMS,
                    "--ready", ready, prefix=space.prefix)
    wait_until(ready.exists, 10, "transfer.py does not listen")
    script = interface("10.9.8.2") + f"""
{IN_GUEST} connect 10.9.8.1 7000 --mib {MIB} --datagrams {DATAGRAMS}
# The driver goes and comes back.
echo virtio0 >/sys/bus/virtio/drivers/virtio_net/unbind
echo virtio0 >/sys/bus/virtio/drivers/virtio_net/bind
""" + interface("10.9.8.2").replace("ip link set lo up\n", "") + "ping -c 2 -W 5 10.9.8.1\n"
    Guest(row, get(NEWEST), "guest", [(server.sockets[0], NET)], script).finish()
    check_ended(row, host)
    server.stop()


def tap_plain(row):
    """As above without any offload, and with buffers that take a whole frame."""
    tap(row, ",offload=off,mrg_rxbuf=off")


def between_guests(row, first, second):
    """Two guests, each with a tenon of its own, and a wire between them."""
    servers = [row.serve(first), row.serve(second)]
    kernel = get(NEWEST)
    transfer = f"--mib {MIB} --datagrams {DATAGRAMS}"
    listener = Guest(row, kernel, "listener", [(servers[0].sockets[0], NET)], interface("10.9.8.1") +
                     f"{IN_GUEST} listen 10.9.8.1 7000 {transfer} --ready listening")
    wait_until(lambda: (row.folder / "listening").exists() or listener.process.poll() is not None,
               30, f"the first guest does not listen; {listener.tail()}")
    Guest(row, kernel, "asker", [(servers[1].sockets[0], NET)], interface("10.9.8.2") +
          f"{IN_GUEST} connect 10.9.8.1 7000 {transfer}").finish()
    listener.finish()
    for server in servers:
        server.stop()


def stream(row):
    path = row.sockets / "wire"
    between_guests(row, f"virtio-net,backend=stream,path={path},server",
                   f"virtio-net,backend=stream,path={path}")


def dgram(row):
    one, two = row.sockets / "one", row.sockets / "two"
    between_guests(row, f"virtio-net,backend=dgram,local={one},path={two}",
                   f"virtio-net,backend=dgram,local={two},path={one}")


DHCP = """ip link set lo up
ip link set eth0 up
cat >{folder}/lease <<'END'
#!/usr/bin/busybox sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${{mask:-24}} dev eth0
ip route add default via $router
echo $router >{folder}/router
END
chmod +x {folder}/lease
/usr/bin/busybox udhcpc -i eth0 -n -q -t 10 -T 1 -s {folder}/lease
router=$(cat {folder}/router)
"""


def user(row):
    """NAT without privileges: an address by DHCP, a stream out, one in by hostfwd."""
    port, forwarded = free_port(), free_port()
    server = row.serve(f"virtio-net,backend=user,hostfwd=tcp:127.0.0.1:{forwarded}-:7000")
    through_host(row, server, port, forwarded)


def through_host(row, server, port, forwarded):
    ready = row.folder / "listening"
    host = host_end(row, "listen", "127.0.0.1", port, "--mib", MIB, "--ready", ready)
    wait_until(ready.exists, 10, "transfer.py does not listen")
    ready.unlink()
    script = DHCP.format(folder=row.folder) + f"""
{IN_GUEST} connect $router {port} --mib {MIB}
{IN_GUEST} listen 0.0.0.0 7000 --mib 4 --ready listening
"""
    guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], NET)], script)
    wait_until(lambda: ready.exists() or guest.process.poll() is not None, 60,
               f"the guest does not listen; {guest.tail()}")
    check_ended(row, host)
    check_ended(row, host_end(row, "connect", "127.0.0.1", forwarded, "--mib", 4))
    guest.finish()
    server.stop()


def passt(row):
    if not shutil.which("passt"):
        raise Skip("there is no passt here: apt-get install passt")
    port, forwarded = free_port(), free_port()
    path = row.sockets / "passt" / "socket"
    path.parent.mkdir()
    if os.geteuid() == 0:  # it becomes nobody before it makes its socket
        row.sockets.chmod(0o711)
        os.chown(path.parent, NOBODY, NOBODY)
    with open(row.folder / "passt.log", "wb") as log:
        process = subprocess.Popen(("passt", "--foreground", "--socket", path, "-t",
                                    f"127.0.0.1/{forwarded}:7000"), stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
    row.on_end(process.wait)
    row.on_end(process.kill)
    wait_until(lambda: path.exists() or process.poll() is not None, 10, "passt does not listen")
    check(process.poll() is None, "passt: " + (row.folder / "passt.log").read_text()[-200:])
    server = row.serve(f"virtio-net,backend=passt,path={path}")
    through_host(row, server, port, forwarded)


def guest_killed(row):
    """Guests that go away in the middle of a stream, five times: the next one's works."""
    space = Namespace(row)
    server = row.serve("virtio-net,tap=tap0", prefix=space.prefix)
    output_of(*space.prefix, "ip", "addr", "add", "10.9.8.1/24", "dev", "tap0")
    output_of(*space.prefix, "ip", "link", "set", "tap0", "up")
    ready = row.folder / "listening"
    for number in range(6):
        last = number == 5
        ready.unlink(missing_ok=True)
        host = host_end(row, "listen", "10.9.8.1", 7000 + number, "--mib", 4 if last else 4000,
                        "--ready", ready, prefix=space.prefix)
        wait_until(ready.exists, 10, "transfer.py does not listen")
        guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], NET)], interface("10.9.8.2") +
                      f"{IN_GUEST} connect 10.9.8.1 {7000 + number} --mib {4 if last else 4000}")
        if last:
            guest.finish()
            check_ended(row, host)
            break
        counter = (*space.prefix, "cat", "/sys/class/net/tap0/statistics/rx_bytes")
        # ip netns exec mounts a /sys of that network.
        start = int(output_of(*counter))
        wait_until(lambda start=start: int(output_of(*counter)) > start + (2 << 20), 30,
                   f"round {number}: nothing is sent; {guest.tail()}")
        guest.kill()
        host.kill()
        host.wait()
        server.check_alive()
    server.stop()


ROWS = {"net-tap": tap, "net-tap-plain": tap_plain, "net-stream": stream, "net-dgram": dgram,
        "net-user": user, "net-passt": passt, "net-kill-guest": guest_killed}
