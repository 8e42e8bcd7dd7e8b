# SPDX-License-Identifier: BSD-3-Clause
"""
kernels.py: Debian's User-Mode Linux: the newest one and this release's, unpacked, not installed.

The newest one is another suite's, with that suite's C library. LD_LIBRARY_PATH alone would not do
(the loader belongs to the library), nor would starting it by its loader (the kernel takes the
program break of its process for its own): so the copy that is run has a loader of its own name.
"""

import fcntl
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
CACHE = PROJECT / ".cache"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
NEWEST = "forky"
PT_INTERP = 3
LOADER = b"ld.so\0"  # relative to the folder that it is started in


class Missing(Exception):
    """A part is not here and cannot be had; the text says why."""


class Kernel:
    """One User-Mode Linux: how to start it, and where its modules are."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = next(folder.glob("root/usr/lib/uml/modules/*"))
        self.release = self.modules.name
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        libraries = folder / "root/usr/lib/x86_64-linux-gnu"
        if libraries.is_dir():
            self.environment["LD_LIBRARY_PATH"] = str(libraries)

    def module_paths(self, *names):
        """Files of the modules @names and what they depend on, in the order to load them in."""
        needs = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            file, _, others = line.partition(":")
            needs[file] = others.split()
        paths = []
        for name in names:
            for file in needs:
                if Path(file).name == f"{name}.ko":
                    paths += [f for f in reversed(needs[file]) if f not in paths] + [file]
        return [self.modules / path for path in dict.fromkeys(paths)]


def run(*command, cwd=None):
    made = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if made.returncode:
        raise Missing(f"{command[0]} failed: {made.stdout.strip()[-300:]}")
    return made.stdout


def apt_options(folder, suite):
    """Options that have apt look into @suite alone, from where this machine takes its packages."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)")
    mirror = re.search(r"^(\S+) [^-\s]+$", targets, re.M)
    if not mirror:
        raise Missing("apt knows no mirror: run apt-get update")
    for name in ("lists", "archives"):
        (folder / name / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] {mirror[1]} {suite} main\n")
    options = {"Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
               "Dir::State::lists": folder / "lists", "Dir::Cache": folder,
               "APT::Sandbox::User": "root"}
    return [word for pair in options.items() for word in ("-o", "=".join(map(str, pair)))]


def set_loader(program, copy):
    """Write @copy: @program with LOADER for its loader."""
    data = bytearray(program.read_bytes())
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for entry in range(table, table + size * count, size):
        kind, = struct.unpack_from("<I", data, entry)
        offset, = struct.unpack_from("<Q", data, entry + 8)
        if kind == PT_INTERP:
            data[offset:offset + len(LOADER)] = LOADER
            struct.pack_into("<QQ", data, entry + 32, len(LOADER), len(LOADER))
    copy.write_bytes(data)
    copy.chmod(0o755)


def unpack(folder, suite):
    partial = folder.with_suffix(".partial")
    run("rm", "-rf", partial)
    (partial / "root").mkdir(parents=True)
    if suite:
        options = apt_options(partial, suite)
        run("apt-get", "-qq", *options, "update")
        packages = (f"user-mode-linux/{suite}", f"libc6/{suite}")
    else:
        options, packages = ["-o", "APT::Sandbox::User=root"], ("user-mode-linux",)
    run("apt-get", "-qq", *options, "download", *packages, cwd=partial)
    for package in partial.glob("*.deb"):
        run("dpkg", "-x", package, partial / "root")
        package.unlink()
    program = partial / "root/usr/bin/linux.uml"
    if suite:
        set_loader(program, partial / "linux.uml")
        (partial / "ld.so").symlink_to("root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    else:
        (partial / "linux.uml").symlink_to("root/usr/bin/linux.uml")
    run("rm", "-rf", partial / "lists", partial / "archives",
        *partial.glob("root/usr/share"), *partial.glob("*.bin"))
    partial.rename(folder)


def get(suite):
    """The kernel of @suite (None: of this machine's release), fetched unless it is there."""
    folder = CACHE / f"uml-{suite or 'here'}"
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "uml.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            if run("dpkg", "--print-architecture").strip() != "amd64" or not os.path.exists(KEYS):
                raise Missing("this is no Debian for amd64, whose package it could be had from")
            print(f"uml: downloading user-mode-linux {suite or ''} into {CACHE}", file=sys.stderr)
            unpack(folder, suite)
    return Kernel(folder)


if __name__ == "__main__":
    try:
        for each in (NEWEST, None):
            print(get(each).release)
    except (Missing, OSError) as error:
        sys.exit(f"uml: {error}")
