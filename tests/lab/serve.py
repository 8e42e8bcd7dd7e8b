# SPDX-License-Identifier: BSD-3-Clause
"""serve.py: does rows beside tenon: in the outer machine, or on a host with KVM.

It reads names of rows from standard input and answers with one JSON object a line:
{"event": "ready" | "stage" | "log" | "result", ...}. Standard library only, and all of it imported
at the start: images.py copies what is loaded then into the outer machine.
"""

import json
import os
import signal
import subprocess
import sys
import time

from guest import RowFailed
from rows import ROWS, Row

HSM = "/dev/acrn_hsm"


class Hsmd:
    """hsmd, the HSM on KVM, unless this machine has a real one."""

    def __init__(self, program, log):
        self.process = None
        self.log = log
        if os.path.exists(HSM):
            return
        if not os.path.exists(program):
            raise RowFailed(f"no {HSM} and no {program} (make it: it needs libfuse3-dev)")
        with open(log, "ab") as file:
            self.process = subprocess.Popen([program, "--kvm-clock"], stdin=subprocess.DEVNULL, stdout=file,
                                            stderr=file)
        deadline = time.monotonic() + 30
        while not os.path.exists(HSM):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RowFailed(f"hsmd made no {HSM}: {self.words()}")
            time.sleep(0.1)

    def words(self):
        """What it said so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)


class Lab:
    """Where rows are done, and who hears of it."""

    def __init__(self, folder, tenon, worker):
        self.folder = folder
        self.tenon = tenon
        self.worker = worker
        self.hsmd = None

    def image(self, name):
        return os.path.join(self.folder, name)

    def emit(self, event, **values):
        print(json.dumps({"event": event, **values}), flush=True)

    def stage(self, name, text):
        self.emit("stage", row=name, text=text)

    def start_hsm(self):
        """For the rows of port acrn; it serves them all, as the kernel's would."""
        if not self.hsmd:
            program = os.path.join(os.path.dirname(self.tenon), "hsmd")
            self.hsmd = Hsmd(program, f"/tmp/hsmd-{self.worker}.log")

    def do(self, label):
        """A row: "port:name"."""
        started = time.monotonic()
        port, name = label.split(":")
        row = Row(label, port, self)
        try:
            if port == "acrn":
                self.start_hsm()
            ROWS[name](row)
        except RowFailed as failure:
            row.failures.append(str(failure))
        except Exception as error:  # whatever it is, the other rows must run
            trace = error.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            place = os.path.basename(trace.tb_frame.f_code.co_filename)
            row.failures.append(f"{type(error).__name__}: {error} ({place}:{trace.tb_lineno})")
        finally:
            row.clean_up()
        for guest in row.guests:
            facts = [f"{fact} {text}" for fact, text in guest.said]
            text = "\n".join([*guest.log, "--- standard error:", guest.stderr(), "--- facts:",
                              *facts])
            self.emit("log", row=label, text=text)
        if row.failures and self.hsmd and self.hsmd.process:
            self.emit("log", row=label, text="--- hsmd:\n" + self.hsmd.words())
        self.emit("result", row=label, failures=row.failures, facts=row.facts,
                  seconds=round(time.monotonic() - started, 1))

    def serve(self):
        self.emit("ready")
        for line in sys.stdin:
            self.do(line.strip())
        if self.hsmd:
            self.hsmd.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    here = os.path.dirname(os.path.abspath(__file__))
    Lab(os.environ.get("LAB_IMAGES", here),
        os.environ.get("LAB_TENON", os.path.join(here, "tenon")),
        int(os.environ.get("LAB_WORKER", "0"))).serve()
