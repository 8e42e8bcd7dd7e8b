# SPDX-License-Identifier: BSD-3-Clause
"""images.py: what the lab boots: Debian's kernel, and ramdisks for guest and outer machine."""

import gzip
import lzma
import os
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).resolve().parent
PROJECT = LAB.parent.parent
CACHE = PROJECT / ".cache"

# Packages that name the newest kernel of their line, best first.
KERNEL_PACKAGES = ("linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64")
# What a kernel has built in is left out.
GUEST_MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "virtio-rng", "button",
                 "evdev", "vmw_vsock_virtio_transport", "virtio_scsi", "sd_mod")
OUTER_MODULES = ("virtio_pci", "virtio_console", "kvm-amd", "kvm-intel", "tun", "vhost_net",
                 "vhost_vsock", "vhost_scsi", "target_core_file", "target_core_iblock", "cuse")
# Programs of the lab's own, in guest and outer machine: NAME.c here, linked statically.
PROGRAMS = ("probe", "vsock-echo")
OUTER_SCRIPTS = ("serve.py", "rows.py", "guest.py", "checks.py")


class ImageError(Exception):
    """Something is missing; the text says what to do."""


def output(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def newest_kernel_package():
    """The package with today's kernel, e.g. linux-image-6.12.117+deb12-cloud-amd64, or None."""
    for name in KERNEL_PACKAGES:
        lines = subprocess.run(("apt-cache", "depends", name), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, check=False).stdout
        found = re.search(r"Depends: (linux-image-\d\S*)", lines)
        if found:
            return found[1]
    return None


def fetch_kernel():
    """Debian's kernel, unpacked in a folder; downloaded into .cache unless it is there."""
    CACHE.mkdir(exist_ok=True)
    packages = sorted(CACHE.glob("linux-image-*.deb"), key=os.path.getmtime)
    if not packages:
        name = newest_kernel_package()
        if not name:
            subprocess.run(("apt-get", "update", "-qq"), check=False)
            name = newest_kernel_package()
        if not name:
            raise ImageError(f"apt knows none of {', '.join(KERNEL_PACKAGES)}: add Debian's "
                             "bookworm and bookworm-security to its sources")
        print(f"lab: downloading {name} into {CACHE}", file=sys.stderr)
        # As root apt would hand the download to a user who cannot write here, and complain.
        download = ("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root")
        if subprocess.run((*download, name), cwd=CACHE, check=False).returncode:
            # The mirror has moved on since the last update: names of old point releases vanish.
            subprocess.run(("apt-get", "update", "-qq"), check=False)
            name = newest_kernel_package()
            subprocess.run((*download, name), cwd=CACHE, check=True)
        packages = list(CACHE.glob("linux-image-*.deb"))
    folder = CACHE / packages[-1].name.split("_")[0]
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        subprocess.run(("dpkg", "-x", packages[-1], partial), check=True)
        partial.rename(folder)
    return folder


def unpack(data):
    """Decompress what a bzImage carries, by its magic."""
    for magic, program in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")):
        if data.startswith(magic):
            # The size appended to the payload makes them complain after all is done.
            return subprocess.run((program, "-dcq"), input=data, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, check=False).stdout
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return data


def extract_vmlinux(bzimage, vmlinux):
    """Write the ELF kernel inside a bzImage, for the PVH entry (Linux boot protocol 2.08)."""
    image = bzimage.read_bytes()
    setup_sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    kernel = unpack(image[start:start + length])
    if not kernel.startswith(b"\x7fELF"):
        raise ImageError(f"{bzimage}: no ELF kernel found inside (are the packages zstd and lz4 installed?)")
    vmlinux.write_bytes(kernel)


def libraries(program):
    """Shared libraries of an ELF file, as the loader finds them; none if it is static."""
    run = subprocess.run(("ldd", program), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, check=False)
    return re.findall(r"(/\S+) \(0x", run.stdout)


class Ramdisk:
    """An initramfs in the making: an uncompressed newc archive, which needs no root to write."""

    def __init__(self):
        self.archive = bytearray()
        self.names = set()
        for folder in ("bin", "dev", "proc", "sys", "tmp", "run"):
            self.folder(folder)
        # The kernel opens it for /init before devtmpfs is mounted.
        self.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def entry(self, name, mode, data=b"", device=(0, 0)):
        if name in self.names:
            return
        self.names.add(name)
        path = name.encode() + b"\0"
        fields = (len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self.archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self.pad()
        self.archive += data
        self.pad()

    def pad(self):
        self.archive += bytes(-len(self.archive) % 4)

    def folder(self, name):
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)
        self.entry(name, stat.S_IFDIR | 0o755)

    def add(self, source, name=None):
        """Add a file of the host, by default under its own name."""
        name = str(name or source).lstrip("/")
        self.folder(os.path.dirname(name) or "bin")
        source = Path(source)
        self.entry(name, stat.S_IFREG | (source.stat().st_mode & 0o777), source.read_bytes())

    def add_program(self, source, name=None):
        self.add(source, name)
        for library in libraries(source):
            self.add(library)

    def add_modules(self, kernel, wanted):
        """Kernel modules as /modules/NN-name.ko, numbered in the order to load them in."""
        files = {re.sub(r"\.ko.*", "", path.name).replace("-", "_"): path
                 for path in kernel.glob("lib/modules/*/kernel/**/*.ko*")}
        done = []

        def load(name):
            if name in done or name not in files:
                return
            data = files[name].read_bytes()
            if files[name].suffix == ".xz":
                data = lzma.decompress(data)
            needs = re.search(rb"\0depends=([^\0]*)\0", data)[1].decode()
            for other in filter(None, needs.split(",")):
                load(other.replace("-", "_"))
            done.append(name)
            self.entry(f"modules/{len(done):02}-{name}.ko", stat.S_IFREG | 0o644, data)

        self.folder("modules")
        for name in wanted:
            load(name.replace("-", "_"))

    def add_python(self):
        """The interpreter and just those files of its library that serve.py loads."""
        code = ("import sys; sys.path.insert(0, sys.argv[1]); import serve\n"
                "for m in list(sys.modules.values()):\n"
                "    for a in ('__file__', '__cached__'): print(getattr(m, a, None) or '')")
        self.add_program(sys.executable)
        loaded = output(sys.executable, "-B", "-I", "-S", "-c", code, LAB)
        for name in loaded.splitlines():
            if os.path.exists(name) and not name.startswith(str(LAB)):
                (self.add_program if name.endswith(".so") else self.add)(name)

    def write(self, path):
        self.entry("TRAILER!!!", 0)
        path.write_bytes(self.archive)


def build_program(name, folder):
    program = folder / name
    source = LAB / f"{name}.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
                        "-static", "-o", program, source), check=True)
    return program


def build_stand_in(folder):
    """vbs-rng, which needs libfuse3; None without it."""
    flags = subprocess.run(("pkg-config", "--cflags", "--libs", "fuse3"), stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True, check=False)
    if flags.returncode:
        return None
    program = folder / "vbs-rng"
    subprocess.run(("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
                    "-Wno-unused-parameter", "-I", PROJECT / "devicemodel/include", "-o", program,
                    LAB / "vbs-rng.c", *flags.stdout.split(), "-lpthread"), check=True)
    return program


def find_busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path) and not libraries(path):
            return path
    raise ImageError("no static busybox found: apt-get install busybox-static")


def pci_names():
    """The few lines of the PCI id list that lspci needs in the guest."""
    path = Path("/usr/share/misc/pci.ids")
    if not path.exists():
        return b""
    text = path.read_bytes().decode(errors="replace")
    vendors = re.findall(r"^(?:1af4|1b36|8086)  .*\n(?:\t.*\n)*", text, re.M)
    return ("".join(vendors) + text[text.index("\nC 00"):]).encode()


def build_guest(kernel, programs, path):
    ramdisk = Ramdisk()
    for program in programs:
        ramdisk.add(program, f"bin/{program.name}")
    ramdisk.add(LAB / "guest-init", "init")
    ramdisk.add(find_busybox(), "bin/busybox")
    ramdisk.add_program("/usr/bin/lspci")
    ramdisk.folder("usr/share/misc")
    ramdisk.entry("usr/share/misc/pci.ids", stat.S_IFREG | 0o644, pci_names())
    ramdisk.add_program("/usr/sbin/blkdiscard" if os.path.exists("/usr/sbin/blkdiscard")
                        else "/sbin/blkdiscard", "usr/sbin/blkdiscard")
    ramdisk.add_modules(kernel, GUEST_MODULES)
    ramdisk.write(path)


def build_outer(kernel, tenon, images, path):
    """The machine that tenon runs in: KVM's modules, and under /lab what serve.py needs."""
    ramdisk = Ramdisk()
    ramdisk.add(LAB / "outer-init", "init")
    ramdisk.add(find_busybox(), "bin/busybox")
    ramdisk.add_modules(kernel, OUTER_MODULES)
    ramdisk.add_python()
    for name in OUTER_SCRIPTS:
        ramdisk.add(LAB / name, f"lab/{name}")
    ramdisk.add_program(tenon, "lab/tenon")
    for name in ("hsmd", "hsmd_client"):
        program = Path(tenon).parent / name
        if program.exists():
            ramdisk.add_program(program, f"lab/{name}")
    for image in images:
        ramdisk.add_program(image, f"lab/{image.name}")
    ramdisk.write(path)


def build_outer_command(tenon, folder, files, command):
    """The outer machine of `try`: it runs /lab/command. @files: pairs of a file and its name in /lab."""
    ramdisk = Ramdisk()
    ramdisk.add(LAB / "outer-init", "init")
    ramdisk.add(find_busybox(), "bin/busybox")
    ramdisk.add_modules(fetch_kernel(), OUTER_MODULES)
    ramdisk.add_program(tenon, "lab/tenon")
    for source, name in files:
        ramdisk.add_program(source, f"lab/{name}")
    for name in ("vmlinuz", "guest.cpio"):
        ramdisk.add(folder / name, f"lab/{name}")
    ramdisk.entry("lab/command", stat.S_IFREG | 0o755, command.encode() + b"\n")
    ramdisk.write(folder / "outer.cpio")


def build(tenon, folder, emulated):
    """Make all images in @folder; returns the kernel for the outer machine."""
    folder.mkdir(parents=True, exist_ok=True)
    kernel = fetch_kernel()
    bzimage = next(kernel.glob("boot/vmlinuz-*"))
    images = [folder / name for name in ("vmlinuz", "vmlinux", "guest.cpio")]
    images[0].write_bytes(bzimage.read_bytes())
    extract_vmlinux(bzimage, images[1])
    programs = [build_program(name, folder) for name in PROGRAMS]
    build_guest(kernel, programs, images[2])
    stand_in = build_stand_in(folder)
    programs += [stand_in] if stand_in else []
    if emulated:
        build_outer(kernel, tenon, images + programs, folder / "outer.cpio")


if __name__ == "__main__":
    try:
        print(fetch_kernel())
    except (ImageError, subprocess.CalledProcessError) as error:
        sys.exit(f"lab: {error}")
