# SPDX-License-Identifier: BSD-3-Clause
"""console_rows.py: virtio-console under a stock driver: its console and its ports."""

import os
import select
import time
import tty

from guest import CONSOLE, Guest
from kernels import NEWEST, get
from serving import Failure, check, connect, pattern, sha256, wait_until

KIB = 1024
# A console never waits for who reads it: what tenon keeps of it for a slow reader is 64 KiB.
CONSOLE_SIZE = 48 * KIB
PORT_SIZE = 1024 * KIB

# Both ways of a character device: what the host sent, its sum in a file; then what it shall get.
# Signals that it is ready to be sent to by a byte: what comes before is the terminal's to lose.
EXCHANGE = """
appears() { # DEVICE: ports are announced one after the other; one that has a name can be opened
    for attempt in $(seq 100); do
        test -c $1 -a $1 = /dev/hvc0 -o -e /sys/class/virtio-ports/${1#/dev/}/name && return
        sleep 0.1
    done
    return 1
}
exchange() { # DEVICE NAME SIZE
    appears $1
    exec 3<>$1
    test $1 != /dev/hvc0 || stty raw -echo <&3
    printf R >&3
    head -c $3 <&3 | sha256sum >$2.received
    cat $2.send >&3
    exec 3>&-
}
"""


class Stream:
    """A descriptor of a socket or a terminal, and a limit of time to all."""

    def __init__(self, descriptor, seconds=40):
        self.descriptor = descriptor
        self.end = time.monotonic() + seconds
        os.set_blocking(descriptor, False)

    def wait(self, events):
        poll = select.poll()
        poll.register(self.descriptor, events)
        if not poll.poll(max(0, (self.end - time.monotonic()) * 1000)):
            raise Failure("no more bytes came through in time")

    def read(self, size):
        data = bytearray()
        while len(data) < size:
            self.wait(select.POLLIN)
            try:
                more = os.read(self.descriptor, size - len(data))
            except BlockingIOError:
                continue
            check(more, f"the stream ended after {len(data)} bytes")
            data += more
        return bytes(data)

    def write(self, data):
        while data:
            self.wait(select.POLLOUT)
            try:
                data = data[os.write(self.descriptor, data):]
            except BlockingIOError:
                pass


def exchange(row, stream, name, size):
    """The host's part of EXCHANGE."""
    check(stream.read(1) == b"R", f"{name}: the guest does not begin")
    stream.write(pattern(size, name + " down"))
    data = stream.read(size)
    check(sha256(data) == sha256(pattern(size, name + " up")), f"{name}: the host got other bytes")
    found = (row.folder / f"{name}.received").read_text().split()[0]
    check(found == sha256(pattern(size, name + " down")), f"{name}: the guest got other bytes")


def prepare(row, *names_and_sizes):
    for name, size in names_and_sizes:
        (row.folder / f"{name}.send").write_bytes(pattern(size, name + " up"))


def sockets(row):
    """A console and two ports on Unix sockets; the ports have their names."""
    paths = {name: row.sockets / name for name in ("console", "one", "two")}
    prepare(row, ("console", CONSOLE_SIZE), ("one", PORT_SIZE), ("two", 1))
    server = row.serve(f"virtio-console,socket:{paths['console']}:server,"
                       f"port=org.tenon.one:socket:{paths['one']}:server,"
                       f"port=org.tenon.two:socket:{paths['two']}:server")
    peers = {name: connect(path) for name, path in paths.items()}
    script = EXCHANGE + """
appears /dev/vport0p1
appears /dev/vport0p2
test "$(cat /sys/class/virtio-ports/vport0p1/name)" = org.tenon.one
test "$(cat /sys/class/virtio-ports/vport0p2/name)" = org.tenon.two
exchange /dev/hvc0 console %d
exchange /dev/vport0p1 one %d
exchange /dev/vport0p2 two 1
""" % (CONSOLE_SIZE, PORT_SIZE)
    guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], CONSOLE)], script)
    for name, size in (("console", CONSOLE_SIZE), ("one", PORT_SIZE), ("two", 1)):
        exchange(row, Stream(peers[name].fileno()), name, size)
    guest.finish()
    server.stop()


def terminal(row):
    """A console on a terminal of the host, and a port into a file."""
    link, file = row.sockets / "pty", row.folder / "file"
    prepare(row, ("console", CONSOLE_SIZE))
    server = row.serve(f"virtio-console,pty:{link},port=log:file:{file}")
    script = EXCHANGE + f"""
exchange /dev/hvc0 console {CONSOLE_SIZE}
appears /dev/vport0p1
cat console.send >/dev/vport0p1
"""
    wait_until(link.exists, 10, "no terminal")
    descriptor = os.open(link, os.O_RDWR | os.O_NOCTTY)
    row.on_end(os.close, descriptor)
    tty.setraw(descriptor)
    guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], CONSOLE)], script)
    exchange(row, Stream(descriptor), "console", CONSOLE_SIZE)
    guest.finish()
    server.stop()
    check(file.read_bytes() == pattern(CONSOLE_SIZE, "console up"), "the file has other bytes")


def guest_killed(row):
    """Guests that go away in mid-stream, five times: the next one has a console that works."""
    path = row.sockets / "console"
    prepare(row, ("console", CONSOLE_SIZE))
    server = row.serve(f"virtio-console,port=data:socket:{path}:server")
    endless = EXCHANGE + "appears /dev/vport0p0\nwhile :; do cat console.send; done >/dev/vport0p0"
    for number in range(5):
        peer = connect(path)
        guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], CONSOLE)], endless)
        wanted = pattern(CONSOLE_SIZE, "console up")
        got = Stream(peer.fileno()).read(CONSOLE_SIZE * (number + 1))
        check(got == wanted * (number + 1), f"round {number}: other bytes")
        guest.kill()
        server.check_alive()
        peer.close()
    peer = connect(path)
    guest = Guest(row, get(NEWEST), "guest", [(server.sockets[0], CONSOLE)],
                  f"{EXCHANGE}\nexchange /dev/vport0p0 console {CONSOLE_SIZE}")
    exchange(row, Stream(peer.fileno()), "console", CONSOLE_SIZE)
    guest.finish()
    server.stop()


ROWS = {"console-sockets": sockets, "console-terminal": terminal,
        "console-kill-guest": guest_killed}
