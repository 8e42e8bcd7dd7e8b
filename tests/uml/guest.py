# SPDX-License-Identifier: BSD-3-Clause
"""guest.py: a User-Mode Linux as a process: the host's files its root, a script its init."""

import os
import signal
import subprocess

from serving import Failure, check

NET, BLOCK, CONSOLE = 1, 2, 3
DRIVERS = {NET: "virtio_net", BLOCK: "virtio_blk", CONSOLE: "virtio_console"}

# The host's files cannot be written to, but for the row's own folder. What programs of the host
# keep in /run and /tmp they keep in memory.
INIT = """#!{shell} sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME={folder} LC_ALL=C
{shell} mount -t proc proc /proc
{shell} mount -t sysfs sysfs /sys
{shell} mount -t tmpfs tmpfs /run
{shell} mount -t hostfs -o {folder} none {folder}
{modules}
cd {folder}
must_fail() {{
    if "$@"; then
        echo "should have failed: $*"
        exit 1
    fi
}}
(
set -e
{script}
)
echo $? >{folder}/{name}.status
sync
{shell} poweroff -f
"""


class Guest:
    """
    Started at once. @devices: pairs of a socket and a virtio device number; @script: what to run in
    it, a command that fails ends it; $PWD is the row's folder.
    """

    def __init__(self, row, kernel, name, devices, script, memory="64M"):
        self.row, self.name = row, name
        self.log = row.folder / f"{name}.log"
        self.status = row.folder / f"{name}.status"
        self.status.unlink(missing_ok=True)
        modules = kernel.module_paths(*dict.fromkeys(DRIVERS[kind] for _, kind in devices))
        init = row.folder / f"{name}.init"
        init.write_text(INIT.format(
            shell="/usr/bin/busybox", folder=row.folder, name=name, script=script,
            modules="\n".join(f"/usr/bin/busybox insmod {path}" for path in modules)))
        init.chmod(0o755)
        command = [kernel.folder / "linux.uml", f"mem={memory}", f"umid={name}",
                   "rootfstype=hostfs", "root=/dev/root", f"init={init}", "con=null",
                   "con0=null,fd:1", "quiet", "panic=-1",
                   *(f"virtio_uml.device={path}:{kind}" for path, kind in devices)]
        # It makes a folder .uml in $HOME for its own use.
        environment = {**kernel.environment, "HOME": str(row.sockets),
                       "TMPDIR": "/dev/shm"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=kernel.folder, env=environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        row.on_end(self.kill)

    def file(self, name):
        """What the script wrote to a file of the row's folder."""
        path = self.row.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self):
        """As a host does that runs out of memory. It is a session of its own, helpers included."""
        if self.process.poll() is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.wait()

    def wait(self, seconds=60):
        """Until it has powered off. Return: the script's exit status."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name}: does not end; {self.tail()}") from None
        check(self.status.exists(), f"{self.name}: did not get to its end; {self.tail()}")
        return int(self.status.read_text())

    def finish(self, seconds=60):
        """As wait(), and the script must have done all it had to."""
        status = self.wait(seconds)
        check(status == 0, f"{self.name}: its script ended with {status}; {self.tail()}")

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-6:])
