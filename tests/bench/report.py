# SPDX-License-Identifier: BSD-3-Clause
"""report.py: the figures as text for a terminal and as doc/performance.md."""

import datetime
import os
import platform
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

from contest import OURS, PROJECT

SPDX = "<!-- SPDX-License-Identifier: BSD-3-Clause -->"

HOW = """\
`make bench` installs the peers' packages, builds tenon, runs the six contests below and writes this page and its
plots; nothing in it is typed by hand. `make bench BENCH=--quick` tries all of it with short rounds and leaves
the page alone, `BENCH="--only 3"` runs one contest.

Both sides of a contest run alternately in the same run, on the same work, in {rounds} rounds; the side that
begins takes turns. A figure is the median of its rounds, lowest and highest in brackets. A ratio is the median of
the rounds' ratios, with their lowest and highest: above 1 tenon is better, whether more or less is wanted.
Where a peer has several configurations, the ratio is to the one that does best in that row. What misses its
target is marked as missed, and the profile behind the table says where the time goes. Where the processor shows
no counters, perf samples by the clock: what the kernel does with interrupts off is then put down to where it lets
them in again, and waking a thread and going to sleep appear as `_raw_spin_unlock_irq` and `finish_task_switch`.
"""


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(row, side):
    if side in row.missing:
        return row.missing[side]
    if side not in row.samples:
        return "-"
    values = row.samples[side]
    text = number(row.median(side))
    return text if max(values) == min(values) else \
        f"{text} ({number(min(values))} – {number(max(values))})"


def ratio_cell(row):
    ratio = row.ratio()
    if not ratio:
        return "-"
    middle, low, high = (f"{value:.2f}" for value in ratio)
    return f"{middle} ×" if low == high else f"{middle} × ({low} – {high})"


def verdict(row):
    if not row.target:
        return ""
    return f"{row.target.text}: " + {True: "reached", False: "**missed**", None: "not measured"}[row.reached()]


def table_lines(table):
    sides = [OURS]
    for row in table.rows:
        sides += [side for side in (*row.samples, *row.missing) if side not in sides]
    has_ratio = any(row.ratio() for row in table.rows)
    has_target = any(row.target for row in table.rows)
    head = ["", *sides] + (["ratio"] if has_ratio else []) + (["target"] if has_target else [])
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in table.rows:
        cells = [row.work + (f", {row.unit}" if row.unit else "")]
        cells += [cell(row, side) for side in sides]
        cells += [ratio_cell(row)] if has_ratio else []
        cells += [verdict(row)] if has_target else []
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def first_line(*command):
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip().splitlines()[0] if run.stdout.strip() else None


def package_version(package):
    return first_line("dpkg-query", "-W", "-f", "${Package} ${Version}\n", package)


def machine_lines(bench):
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", info)
    virtual = "svm" in info or "vmx" in info
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))[1])
    kvm = "no" if not os.path.exists("/dev/kvm") else \
        "yes" if virtual else "a software KVM (the processor shows no virtualisation)"
    commit = first_line("git", "-C", str(PROJECT), "describe", "--always", "--dirty")
    peers = filter(None, map(package_version, ("qemu-system-x86", "qemu-system-common", "dpdk")))
    now = datetime.datetime.now(datetime.timezone.utc)
    return [
        "| | |", "|---|---|",
        f"| date | {now:%d %B %Y, %H:%M} UTC |",
        f"| processors | {os.cpu_count()} × {model[1] if model else platform.machine()} |",
        f"| memory | {memory / (1 << 20):.0f} GiB |",
        f"| kernel | {platform.release()} |",
        f"| /dev/kvm | {kvm} |",
        f"| load before | {bench.load:.2f} |",
        f"| tenon | {first_line(str(bench.tenon), 'version')}, {commit}, "
        f"{first_line('gcc', '--version')} |",
        f"| peers | {', '.join(peers)} |",
    ]


def prose(text):
    """Paragraphs of the page's width, and an empty line."""
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False) + [""] if text else []


def contest_lines(contest):
    lines = [f"## {contest.number}. {contest.title}", "", *prose(contest.does)]
    if contest.not_run:
        return lines + prose(f"Not run here: {contest.not_run}.")
    lines += prose(f"What it does not show: {contest.limits}")
    for table in contest.tables:
        lines += ([f"### {table.title}", ""] if table.title else []) + prose(table.text) + \
            table_lines(table) + [""]
    for name, title, _ in contest.plots:
        lines += [f"![{title}]({name})", ""]
    for row in contest.missed():
        if row.profile:
            lines += [f"{row.work[0].upper()}{row.work[1:]} missed its target. Where tenon's time goes "
                      "there:", "", "```", row.profile, "```", ""]
    for note in contest.notes:
        lines += [note, ""]
    return lines


def summary_lines(contests):
    """A line a target, beside what came out."""
    lines = ["| contest | | target | result | |", "|---|---|---|---|---|"]
    for contest in contests:
        if contest.not_run:
            lines.append(f"| {contest.number} | {contest.title} | | not run: {contest.not_run} | |")
        for row in contest.rows():
            if not row.target:
                continue
            reached = row.reached()
            result = ratio_cell(row) if "×" in row.target.text or row.target.text == "better" or \
                "1/10" in row.target.text else cell(row, OURS) + " " + row.unit
            lines.append(f"| {contest.number} | {row.work} | {row.target.text} | {result} | " +
                         {True: "reached", False: "**missed**", None: "not measured"}[reached] + " |")
    return lines


def page(bench, contests):
    lines = ["# Performance: tenon beside its peers", "", HOW.format(rounds=bench.rounds),
             "## The machine", "", *machine_lines(bench), "",
             f"The whole took {sum(contest.seconds for contest in contests) / 60:.0f} minutes.", "",
             "## Targets and results", "", *summary_lines(contests), ""]
    for contest in contests:
        lines += contest_lines(contest)
    return "\n".join(lines).rstrip() + "\n"


def write(bench, contests, folder):
    """performance.md and its plots."""
    (folder / "performance.md").write_text(page(bench, contests), encoding="utf-8")
    for contest in contests:
        for name, _, path in contest.plots:
            text = path.read_text(encoding="utf-8")
            head, rest = text.split("\n", 1)
            (folder / name).write_text(f"{head}\n{SPDX}\n{rest}", encoding="utf-8")
            shutil.copymode(folder / "performance.md", folder / name)


def show(contest):
    """What the terminal shows as soon as a contest is over."""
    print(f"\n{contest.number}. {contest.title} ({contest.seconds:.0f} s)")
    if contest.not_run:
        print(f"  not run here: {contest.not_run}")
    for table in contest.tables:
        if table.title:
            print(f"  {table.title}")
        for row in table.rows:
            sides = "  ".join(f"{side} {cell(row, side)}" for side in (*row.samples, *row.missing))
            print(f"    {row.work}{', ' + row.unit if row.unit else ''}: {sides}  "
                  f"{ratio_cell(row)}  {verdict(row)}".rstrip(" -"))
    for note in contest.notes:
        print("  " + note.replace("\n", "\n  "))
    print(flush=True)
