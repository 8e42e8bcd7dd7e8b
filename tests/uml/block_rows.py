# SPDX-License-Identifier: BSD-3-Clause
"""block_rows.py: virtio-blk under a stock driver: sizes, files, flush, and peers that go away."""

import random
import time

from guest import BLOCK, Guest
from kernels import NEWEST, get
from serving import build_program, check, output_of, pattern, sha256, wait_until

SECTOR = 512
MIB = 1 << 20
# Sizes that are no multiple of a page, an ordinary one, and more sectors than 32 bits count bytes.
SIZES = (SECTOR * 2049, 64 * MIB, 5 * 1024 * MIB + SECTOR)
KILLS = 20


def check_files(image, names_and_sums):
    """The file system in @image is in order, and has these files."""
    output_of("/usr/sbin/fsck.ext4", "-fn", image)
    copies = image.with_suffix(".copies")
    copies.mkdir()
    output_of("/usr/sbin/debugfs", "-R", f"rdump / {copies}", image)
    for name, wanted in names_and_sums.items():
        copy = copies / name
        check(copy.exists(), f"{name} is not in {image.name}")
        check(sha256(copy.read_bytes()) == wanted, f"{image.name}: {name} has other data")


def raw(row, kernel):
    """Sizes as they are; data written by the guest is in the image, and the other way round."""
    chunk = pattern(MIB, row.name)
    (row.folder / "chunk").write_bytes(chunk)
    disks = [row.disk(f"disk{n}", size, chunk) for n, size in enumerate(SIZES)]
    server = row.serve(*(f"virtio-blk,path={disk}" for disk in disks))
    script = ["sum=$(sha256sum <chunk)"]
    for disk, size in zip("abc", SIZES):
        last = size // SECTOR - 8
        script += [
            f"test $(cat /sys/block/vd{disk}/size) = {size // SECTOR}",
            f'test "$(head -c {MIB} /dev/vd{disk} | sha256sum)" = "$sum"',
            # The last sectors and, past the page cache, odd places.
            f"dd if=chunk of=/dev/vd{disk} bs=512 count=8 seek={last} conv=fsync",
            f"dd if=chunk of=/dev/vd{disk} bs=512 skip=8 count=3 seek=5 oflag=direct",
            f"must_fail dd if=chunk of=/dev/vd{disk} bs=512 seek={size // SECTOR} oflag=direct",
        ]
    script += [f"dd if=chunk of=/dev/vdb bs=64k seek={33 * 16} conv=fsync oflag=direct",
               f"dd if=chunk of=/dev/vdc bs=64k seek={5000 * 16} conv=fsync",
               "dd if=/dev/vdb iflag=direct bs=1M skip=33 count=1 | sha256sum | grep -q \"$sum\""]
    Guest(row, kernel, "guest", [(path, BLOCK) for path in server.sockets],
          "\n".join(script)).finish()
    server.stop()
    for disk, size in zip(disks, SIZES):
        with open(disk, "rb") as file:
            head = bytearray(chunk)
            head[5 * SECTOR:8 * SECTOR] = chunk[8 * SECTOR:11 * SECTOR]
            if size == SIZES[0]:
                head[size - 8 * SECTOR:] = chunk[:MIB - size + 8 * SECTOR]
            check(file.read(MIB) == head, f"{disk.name}: its beginning is not what was written")
            file.seek(size - 8 * SECTOR)
            check(file.read() == chunk[:8 * SECTOR], f"{disk.name}: its end is not")
            for megabyte in {SIZES[1]: [33], SIZES[2]: [5000]}.get(size, []):
                file.seek(megabyte * MIB)
                check(file.read(MIB) == chunk, f"{disk.name}: not all is at {megabyte} MiB")


def raw_newest(row):
    raw(row, get(NEWEST))


def raw_here(row):
    raw(row, get(None))


def files(row):
    """A file system made, filled, mounted again and read by the guest; the host finds it whole."""
    disk = row.disk("disk", 96 * MIB)
    sums = {}
    (row.folder / "from").mkdir()
    (row.folder / "mnt").mkdir()
    for number in range(12):
        data = pattern(random.Random(number).randrange(3 * MIB), number)
        (row.folder / f"from/file{number}").write_bytes(data)
        sums[f"file{number}"] = sha256(data)
    (row.folder / "from.sums").write_text("".join(f"{s}  mnt/{n}\n" for n, s in sums.items()))
    server = row.serve(f"virtio-blk,path={disk}")
    script = """
mkfs.ext4 -q /dev/vda
mount -t ext4 -o discard /dev/vda mnt
cp from/* mnt/
umount mnt
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 -o discard /dev/vda mnt
sha256sum -c from.sums
cp mnt/file1 mnt/other
rm mnt/file1
fstrim mnt
umount mnt
fsck.ext4 -fn /dev/vda
"""
    Guest(row, get(NEWEST), "guest", [(server.sockets[0], BLOCK)], script).finish()
    server.stop()
    sums["other"] = sums.pop("file1")
    check_files(disk, sums)


def commands(row):
    """Discard and write-zeroes give zeroes where they were asked for; serial; read-only."""
    data = pattern(8 * MIB, row.name)
    disk, other = row.disk("disk", 8 * MIB, data), row.disk("other", 8 * MIB, data)
    server = row.serve(f"virtio-blk,path={disk},serial=TENON-1", f"virtio-blk,path={other},ro")
    script = """
test "$(cat /sys/block/vda/serial)" = TENON-1
test $(cat /sys/block/vda/queue/discard_max_bytes) -gt 0
test $(cat /sys/block/vda/queue/write_zeroes_max_bytes) -gt 0
grep -q 'write back' /sys/block/vda/queue/write_cache
/sbin/blkdiscard -o 1M -l 1M /dev/vda
/sbin/blkdiscard -z -o 3145728 -l 65536 /dev/vda
test $(cat /sys/block/vdb/ro) = 1
must_fail dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct
sha256sum </dev/vdb >sum
# The driver goes and comes back: reset, and all set up anew.
for again in 1 2 3; do
    echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/unbind
    test ! -e /sys/block/vda
    echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/bind
    dd if=/dev/urandom of=random$again bs=64k count=4
    dd if=random$again of=/dev/vda bs=64k seek=$((80 + again * 4)) oflag=direct
done
"""
    Guest(row, get(NEWEST), "guest", [(path, BLOCK) for path in server.sockets], script).finish()
    server.stop()
    check((row.folder / "sum").read_text().split()[0] == sha256(data), "read-only: other data")
    check(other.read_bytes() == data, "the read-only disk was written to")
    expected = bytearray(data)
    expected[1 * MIB:2 * MIB] = bytes(MIB)
    expected[3 * MIB:3 * MIB + 65536] = bytes(65536)
    for number in (1, 2, 3):
        start = (80 + number * 4) * 65536
        expected[start:start + 4 * 65536] = (row.folder / f"random{number}").read_bytes()
    found = disk.read_bytes()
    wrong = next((n for n in range(len(found)) if found[n] != expected[n]), None)
    check(found == expected, f"the image differs at byte {wrong}")


def verified_load(row):
    """32 random reads, writes and flushes at a time, each verified; the image is as it says."""
    disk = row.disk("disk", 24 * MIB)
    other = row.disk("other", 8 * MIB)
    # Packed rings are not for virtio_uml: it says that they begin with the wrap counter at 0.
    server = row.serve(f"virtio-blk,path={disk}", f"virtio-blk,path={other},engine=threads,"
                       "event_idx=off,indirect=off,cache=writethrough")
    program = build_program(row, "blockload")
    script = f"""
{program} /dev/vda 4 32
sha256sum </dev/vda >sum
{program} /dev/vdb 2 32
"""
    guest = Guest(row, get(NEWEST), "guest", [(path, BLOCK) for path in server.sockets], script)
    guest.finish()
    server.stop()
    check(guest.file("sum").split()[0] == sha256(disk.read_bytes()), "the image has other data")


WRITER = """
mount -t ext4 /dev/vda mnt
for file in $(tail -n 12 acked 2>/dev/null); do
    sum=$(sha256sum <mnt/$file)
    test "${sum%% *}" = "$(cat sums/$file)"
done
echo checked >ready
number=0
while number=$((number + 1)); do
    file=r$ROUND-$number
    dd if=/dev/urandom of=mnt/$file bs=1k count=$((number * 7 % 90 + 1)) conv=fsync
    sum=$(sha256sum <mnt/$file)
    echo ${sum%% *} >sums/$file
    sync -d mnt
    echo $file >>acked
done
"""


def guest_killed(row):
    """
    A front end that goes away in mid-write, 20 times: tenon serves the next one, and what was
    flushed is there.
    """
    disk = row.disk("disk", 96 * MIB)
    output_of("/usr/sbin/mkfs.ext4", "-q", "-F", disk)
    for name in ("mnt", "sums"):
        (row.folder / name).mkdir()
    server = row.serve(f"virtio-blk,path={disk}")
    kernel, delays = get(NEWEST), random.Random(1)
    acked = 0
    for number in range(KILLS):
        (row.folder / "ready").unlink(missing_ok=True)
        guest = Guest(row, kernel, "guest", [(server.sockets[0], BLOCK)],
                      f"ROUND={number}\n{WRITER}")
        wait_until(lambda: guest.file("ready") or guest.process.poll() is not None, 30,
                   f"round {number}: files are not checked; {guest.tail()}")
        check(guest.process.poll() is None, f"round {number}: files are lost; {guest.tail()}")
        time.sleep(delays.uniform(0.02, 0.4))
        check(guest.process.poll() is None, f"round {number}: guest ended; {guest.tail()}")
        guest.kill()
        server.check_alive()
        acked = len(guest.file("acked").split())
    check(acked > KILLS, f"only {acked} files were written in {KILLS} rounds")
    # The journal of the last one is replayed by a guest.
    script = "mount -t ext4 /dev/vda mnt\numount mnt\nfsck.ext4 -fn /dev/vda"
    Guest(row, kernel, "guest", [(server.sockets[0], BLOCK)], script).finish()
    server.stop()
    sums = {name: (row.folder / "sums" / name).read_text().strip()
            for name in (row.folder / "acked").read_text().split()}
    check_files(disk, sums)


WRITE_BLOCKS = """
write_blocks() { # FIRST LAST: what is written to whom is said in the file "written"
    for number in $(seq $1 $2); do
        dd if=/dev/urandom of=block bs=4k count=1
        # Once the disk is gone /dev/vda would be made, as an ordinary file.
        /bin/dd if=block of=/dev/vda bs=4k seek=$number oflag=direct conv=fsync,nocreat
        sum=$(sha256sum <block)
        echo $number ${sum%% *} >>written
    done
}
"""


def tenon_killed_idle(row, server):
    """No request is under way: the driver drops the disk, the guest goes on and ends in order."""
    script = WRITE_BLOCKS + """
write_blocks 0 19
echo >idle
while test ! -e killed; do sleep 0.1; done
for attempt in $(seq 50); do
    test -e /sys/block/vda || break
    sleep 0.1
done
must_fail test -e /sys/block/vda
"""
    guest = Guest(row, get(NEWEST), "idle", [(server.sockets[0], BLOCK)], script)
    wait_until((row.folder / "idle").exists, 30, f"no writes; {guest.tail()}")
    server.kill()
    (row.folder / "killed").touch()
    guest.finish()


def tenon_killed_busy(row, server):
    """In mid-request: Linux waits for the answer for ever; what does not use the disk goes on."""
    script = WRITE_BLOCKS + """
write_blocks 20 4000 &
while test ! -e killed-busy; do sleep 0.1; done
sleep 1
echo >alive
"""
    guest = Guest(row, get(NEWEST), "busy", [(server.sockets[0], BLOCK)], script)
    wait_until(lambda: guest.file("written").count("\n") > 70, 30, f"no writes; {guest.tail()}")
    server.kill()
    (row.folder / "killed-busy").touch()
    wait_until((row.folder / "alive").exists, 20, f"the guest is dead; {guest.tail()}")
    guest.kill()


def tenon_killed(row):
    """
    A back end that goes away, in a front end that cannot wait for the next one: what it
    acknowledged is in the image, and new pairs work.
    """
    disk = row.disk("disk", 16 * MIB)
    server = row.serve(f"virtio-blk,path={disk}")
    tenon_killed_idle(row, server)
    server.start()
    tenon_killed_busy(row, server)
    data = disk.read_bytes()
    for line in (row.folder / "written").read_text().splitlines():
        number, wanted = line.split()
        start = int(number) * 4096
        found = sha256(data[start:start + 4096])
        check(found == wanted, f"block {number} was acknowledged, is lost")
    server.start()
    script = "sha256sum </dev/vda >sum\n" + WRITE_BLOCKS + "write_blocks 0 9"
    guest = Guest(row, get(NEWEST), "next", [(server.sockets[0], BLOCK)], script)
    guest.finish()
    server.stop()
    check(guest.file("sum").split()[0] == sha256(data), "the next guest reads other data")


ROWS = {"blk-kill-guest": guest_killed, "blk-raw": raw_newest, "blk-raw-6.1": raw_here,
        "blk-files": files, "blk-commands": commands, "blk-load": verified_load,
        "blk-kill-tenon": tenon_killed}
