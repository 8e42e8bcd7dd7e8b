# SPDX-License-Identifier: BSD-3-Clause
"""serve.py: does rows beside tenon: in the outer machine, or on a host with KVM.

It reads names of rows from standard input and answers with one JSON object a line:
{"event": "ready" | "stage" | "log" | "result", ...}. Standard library only, and all of it imported
at the start: images.py copies what is loaded then into the outer machine.
"""

import json
import os
import signal
import sys
import time

from guest import RowFailed
from rows import ROWS, Row


class Lab:
    """Where rows are done, and who hears of it."""

    def __init__(self, folder, tenon, worker):
        self.folder = folder
        self.tenon = tenon
        self.worker = worker

    def image(self, name):
        return os.path.join(self.folder, name)

    def emit(self, event, **values):
        print(json.dumps({"event": event, **values}), flush=True)

    def stage(self, name, text):
        self.emit("stage", row=name, text=text)

    def do(self, name):
        started = time.monotonic()
        row = Row(name, self)
        try:
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
            self.emit("log", row=name, text=text)
        self.emit("result", row=name, failures=row.failures, facts=row.facts,
                  seconds=round(time.monotonic() - started, 1))

    def serve(self):
        self.emit("ready")
        for line in sys.stdin:
            self.do(line.strip())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    here = os.path.dirname(os.path.abspath(__file__))
    Lab(os.environ.get("LAB_IMAGES", here),
        os.environ.get("LAB_TENON", os.path.join(here, "tenon")),
        int(os.environ.get("LAB_WORKER", "0"))).serve()
