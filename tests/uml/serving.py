# SPDX-License-Identifier: BSD-3-Clause
"""serving.py: what the rows of front ends share: `tenon serve` as a process, and a runner of rows."""

import argparse
import fcntl
import hashlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent


class Failure(Exception):
    """What a row found wrong."""


class Skip(Exception):
    """Why a row cannot be run here."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(condition, seconds, text):
    """Poll @condition; what it returned, once that is true."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        check(time.monotonic() < end, f"{text}: not within {seconds} s")
        time.sleep(0.02)


def pattern(size, seed):
    """@size bytes that look random and are the same for the same @seed."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def output_of(*command):
    """What a command of the host printed; it must end with 0."""
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=60, check=False)
    check(made.returncode == 0, f"{' '.join(map(str, command))}: status {made.returncode}: "
          f"{made.stdout.strip()[-300:]}")
    return made.stdout


def build_program(row, name):
    """One of the programs in C in this folder, linked statically: it runs in any guest."""
    program = row.folder / name
    output_of("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-o", program,
              PROJECT / f"tests/uml/{name}.c")
    return program


def listens(pid, path):
    """Does a process listen at @path? Asked without a connection, which it would take for its peer."""
    if not os.path.exists(path):
        return False
    with open(f"/proc/{pid}/net/unix", encoding="ascii", errors="replace") as table:
        return any(line.split()[-1] == path and line.split()[3] == "00010000" for line in table)


class Row:
    """What one row works in: a folder, its processes, and what it leaves running is ended."""

    def __init__(self, name, arguments):
        self.name = name
        self.tenon = arguments.tenon
        self.folder = arguments.folder / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # The addresses of Unix sockets are short: not below the project, which may be deep.
        self.sockets = Path(tempfile.mkdtemp(prefix="tenon-"))
        self.cleanups = []

    def on_end(self, function, *arguments):
        self.cleanups.append((function, arguments))

    def end(self):
        for function, arguments in reversed(self.cleanups):
            try:
                function(*arguments)
            except OSError as error:
                print(f"{self.name}: {error}", file=sys.stderr)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def disk(self, name, size, content=b""):
        """A sparse image with @content at its beginning."""
        path = self.folder / name
        with open(path, "wb") as file:
            file.write(content)
            file.truncate(size)
        return path

    def serve(self, *devices, prefix=()):
        """Start `tenon serve` for @devices as -s takes them; @prefix: a command to start it by."""
        return Server(self, devices, prefix)


class Server:
    """A `tenon serve` process; its sockets are self.sockets, in the order of the devices."""

    def __init__(self, row, devices, prefix):
        self.row = row
        self.sockets = []
        self.command = [*prefix, row.tenon, "serve"]
        number = len(list(row.folder.glob("serve*.log")))
        self.log = row.folder / f"serve{number}.log"
        for device in devices:
            path = str(row.sockets / f"{number}-{len(self.sockets)}")
            self.sockets.append(path)
            self.command += ["-s", device, "--socket", path]
        self.process = None
        self.start()
        row.on_end(self.kill)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        if wait:
            wait_until(lambda: self.process.poll() is not None or self.listens(),
                       10, "tenon serve does not listen")
            check(self.process.poll() is None, f"tenon serve ended: {self.last_line()}")

    def listens(self):
        return all(listens(self.process.pid, path) for path in self.sockets)

    def last_line(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def kill(self):
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()

    def check_alive(self):
        check(self.process.poll() is None,
              f"tenon serve ended with {self.process.poll()}: {self.last_line()}")

    def stop(self):
        """SIGTERM: it must end in order."""
        self.check_alive()
        self.process.terminate()
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("tenon serve does not end on SIGTERM") from None
        check(status == 0, f"tenon serve ended with {status}: {self.last_line()}")


def connect(path, seconds=10):
    """A connection to a Unix socket that may be about to appear."""
    wait_until(lambda: os.path.exists(path), seconds, f"nobody listens at {path}")
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(seconds)
    peer.connect(str(path))
    return peer


def lock_folder(folder):
    """Have @folder for ourselves; what another run does in it is waited for. Held as long as we live."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)


def run_rows(rows, arguments, folder):
    """Run @rows (name: function), a worker a processor. The exit status."""
    waiting, lines, counts = queue.Queue(), threading.Lock(), {"ok": 0, "FAIL": 0, "skip": 0}
    arguments.folder = folder
    for name in arguments.rows or rows:
        waiting.put(name)

    def run_one(name):
        row = Row(name, arguments)
        try:
            rows[name](row)
        except Failure as failure:
            return "FAIL", str(failure)
        except Skip as reason:
            return "skip", str(reason)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return "FAIL", f"{type(error).__name__}: {error}"
        finally:
            row.end()
        return "ok", ""

    def work():
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            start = time.monotonic()
            result, text = run_one(name)
            with lines:
                counts[result] += 1
                seconds = f"({time.monotonic() - start:.1f} s)"
                print(f"{result:4} {name}{': ' if text else ' '}{text or seconds}", flush=True)

    workers = [threading.Thread(target=work) for _ in range(arguments.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] else 0


def parse_arguments(description, rows):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of {', '.join(rows)}")
    parser.add_argument("--tenon", default=PROJECT / "build/opt/tenon", help="program to test")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count(), 4))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in rows]
    if unknown:
        parser.error(f"no row {unknown[0]}; there are {', '.join(rows)}")
    arguments.tenon = str(Path(arguments.tenon).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return arguments
