# SPDX-License-Identifier: BSD-3-Clause
"""clauses.txt and numbers.txt as data, and what must hold for them."""
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)


class Clause:
    """One line: its number, a title, and tests [(program, test)] or the reason why it does not apply."""

    def __init__(self, line):
        self.number, self.title, shown = (part.strip() for part in line.split("|", 2))
        self.reason, self.tests = None, []
        if shown.startswith("n/a:"):
            self.reason = shown[len("n/a:"):].strip()
            return
        for test in shown.split(";"):
            program, _, name = test.partition(":")
            self.tests.append((program.strip(), name.strip()))


def read_clauses():
    """[(group title, [Clause])]; ValueError for a line that is none."""
    groups = []
    with open(os.path.join(HERE, "clauses.txt"), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("= "):
                groups.append((line[2:], []))
            elif line.count("|") == 2 and groups:
                groups[-1][1].append(Clause(line))
            else:
                raise ValueError(f"clauses.txt:{number}: no clause: {line}")
    return groups


def read_numbers():
    with open(os.path.join(HERE, "numbers.txt"), encoding="utf-8") as file:
        return file.read().split()


def find_test(program, name, sources={}):
    """None if @program registers a test @name, else what is wrong."""
    path = os.path.join(TESTS, program + ".c")
    if path not in sources:
        sources[path] = open(path, encoding="utf-8").read() if os.path.exists(path) else None
    if sources[path] is None:
        return f"there is no tests/{program}.c"
    registered = rf'"{re.escape(name)}"|\b(?:\w*TEST|cmocka_unit_test\w*|ON_EACH_ENGINE)\(\s*{re.escape(name)}\s*[,)]'
    if not re.search(registered, sources[path]):
        return f"{program} has no test {name}"
    return None


def clause_fault(clause, numbers):
    if clause.number not in numbers:
        return "is no clause of numbers.txt"
    if not clause.title:
        return "has no title"
    if not clause.reason and not clause.tests:
        return "has neither test nor reason"
    faults = (find_test(program, name) for program, name in clause.tests)
    return next((fault for fault in faults if fault), None)


def find_faults(groups, numbers):
    """{number: None or what is wrong with it}"""
    members = [clause for _, clauses in groups for clause in clauses]
    listed = [clause.number for clause in members]
    results = {clause.number: clause_fault(clause, numbers) for clause in members}
    for number in numbers:
        if listed.count(number) != 1:
            results[number] = f"is in clauses.txt {listed.count(number)} times, not once"
    return results


def render(groups):
    """doc/conformance.md"""
    total = [clause for _, members in groups for clause in members]
    shown = [clause for clause in total if clause.tests]
    lines = [
        "<!-- Made by tests/conformance/generate of tests/conformance/clauses.txt: edit that. -->",
        "# Conformance to virtio 1.4",
        "",
        "Every obligation that the specification puts on a device, for the parts that tenon has: the",
        "general rules, both kinds of virtqueue, PCI, and the network, block, console, entropy, SCSI",
        "and socket devices. A clause is named by its section and its place there; `X-` marks obligations outside",
        "of the \"Device Requirements\" blocks. Each is shown by tests, or does not apply, for the",
        "reason given.",
        "",
        "A test is named as its program prints it: `conformance/test_split` is `tests/conformance/`",
        "`test_split.c`, built as `build/opt/tests/conformance/test_split`. The tests of the general",
        "clauses run for every kind of device that is registered, through the legacy and the modern",
        "interface, on split and packed rings, with INDIRECT_DESC and EVENT_IDX on and off, with the",
        "line and with MSI-X, with kicks that trap and kicks by eventfd.",
        "",
        f"{len(total)} clauses: {len(shown)} shown by tests, {len(total) - len(shown)} do not apply.",
        "",
        "| | clauses | shown | do not apply |",
        "|---|---:|---:|---:|",
    ]
    for title, members in groups:
        tested = sum(1 for clause in members if clause.tests)
        lines.append(f"| {title} | {len(members)} | {tested} | {len(members) - tested} |")
    for title, members in groups:
        lines += ["", f"## {title}", "", "| clause | | shown by |", "|---|---|---|"]
        for clause in members:
            how = "<br>".join(f"`{program}`: {name}" for program, name in clause.tests)
            lines.append(f"| {clause.number} | {clause.title} | "
                         f"{how or 'does not apply: ' + clause.reason} |")
    return "\n".join(lines) + "\n"
