"""Draw the results: `python -m benchmarks.plots results.json --to docs/img`.

One SVG per plot, from the JSON of one or more runs; the same JSON gives the same bytes. Needs matplotlib. A plot whose
table is in none of the files is left out, and said so.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

from . import measure
from .measure import OURS, Table

mpl.use("svg")

from matplotlib import pyplot as plt

OWN, OTHER, INK, FAINT = "#0b6e75", "#b9c0c7", "#22272e", "#e6e9ec"
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": FAINT,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pymysqlpool",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.major.size": 0,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One file: which column of which tables, and how it is drawn."""

    name: str
    draw: Callable[[Plot, Sequence[Table], str], Any]
    tables: tuple[str, ...]
    column: str  # or the beginning of its title
    label: str
    log: bool = False


def values(table: Table, column: str) -> list[tuple[str, float]]:
    """(subject, value) for each row that has a number in that column."""
    at = next(index for index, title in enumerate(table.columns) if index and title.startswith(column))
    return [(str(row[0]), float(cell)) for row in table.rows if isinstance(cell := row[at], int | float)]


def shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def color(name: str) -> str:
    return OWN if name.startswith(OURS) else OTHER


def bars(plot: Plot, tables: Sequence[Table], source: str) -> Any:
    """Side by side, one panel per table, in the table's order; points where the scale is logarithmic."""
    rows = max(len(table.rows) for table in tables)
    size = (max(6.4, 0.6 + 4.6 * len(tables)), 1.1 + 0.29 * rows)
    figure, panels = plt.subplots(1, len(tables), squeeze=False, figsize=size)
    for panel, table in zip(panels[0], tables, strict=True):
        series = values(table, plot.column)[::-1]
        names, numbers = [name for name, _ in series], [number for _, number in series]
        if plot.log:  # a bar's length means nothing where there is no zero
            panel.scatter(numbers, names, color=[color(name) for name in names], s=60, zorder=2)
        else:
            panel.barh(names, numbers, color=[color(name) for name in names], height=0.7)
        for at, number in enumerate(numbers):
            panel.annotate(shown(number), (number, at), (6, 0), textcoords="offset points", va="center", fontsize=8)
        if plot.log:
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter("")
        panel.margins(x=0.16)
        panel.set_title(textwrap.fill(table.title, 32), fontsize=10)
        panel.set_xlabel(plot.label)
        panel.grid(axis="both" if plot.log else "x")
        for tick in panel.get_yticklabels():
            tick.set_fontweight("bold" if tick.get_text().startswith(OURS) else "normal")
    return sign(figure, source)


def lines(plot: Plot, tables: Sequence[Table], source: str) -> Any:
    """One line per table over its rows, whose subjects are numbers."""
    figure, panel = plt.subplots(figsize=(6.2, 3.2))
    for table, tint in zip(tables, (OWN, "#c2571a", OTHER), strict=False):
        series = values(table, plot.column)
        panel.plot([float(name) for name, _ in series], [y for _, y in series], "o-", color=tint, label=table.title)
    panel.set_xscale("log")
    panel.set_ylim(0, max(2.0, 1.1 * panel.get_ylim()[1]))
    panel.set_xlabel("connections, or waiters")
    panel.set_ylabel(plot.label)
    panel.grid()
    panel.legend(frameon=False)
    return sign(figure, source)


def sign(figure: Any, source: str) -> Any:
    figure.supxlabel(source, fontsize=7, x=0.99, ha="right", color="#6b7480")
    return figure


NEAR = ("select1_tcp", "select1_unix", "select1_snapshot")
REMOTE = ("select1_tls", "select1_link")
STATEMENTS = ("statements_bulk", "statements_inserts", "statements_selects", "statements_dicts")
CONTENTION = ("contention_32_on_4", "contention_32_on_4_one_cpu", "contention_128_on_4")
PLOTS = (
    Plot("borrow-return", bars, ("borrow_return",), "time", "time, ours = 1 (less is better)", log=True),
    Plot("select1", bars, NEAR, "speed", "speed, bare PyMySQL = 1 (more is better)"),
    Plot("select1-remote", bars, REMOTE, "speed", "speed, bare PyMySQL = 1 (more is better)"),
    Plot("large-results", bars, ("large_narrow", "large_wide", "large_unbuffered"), "speed", "speed, bare PyMySQL = 1"),
    Plot("statements", bars, STATEMENTS, "speed", "speed, bare PyMySQL = 1 (more is better)"),
    Plot("connect", bars, ("connect_tcp", "connect_tls"), "time", "time, ours = 1 (less is better)", log=True),
    Plot("contention-speed", bars, CONTENTION, "speed", "speed, 4 bare connections = 1 (more is better)"),
    Plot("contention-wait", bars, CONTENTION, "p99.9", "p99.9 of the wait, ms (less is better)", log=True),
    Plot("contention-fairness", bars, CONTENTION, "fairness", "idlest / busiest thread (1 is fair)"),
    Plot("handover", bars, ("handover",), "median", "time, ours = 1 (less is better)", log=True),
    Plot("growth", lines, ("growth_idle", "growth_waiters"), "time", "time, relative to 1"),
    Plot("memory", bars, ("memory",), "Python", "memory per idle connection, ours = 1 (less is better)"),
    Plot("recovery", bars, ("recovery_idle", "recovery_busy"), "ms", "ms to 100 good operations", log=True),
    Plot("web", bars, ("web_flask", "web_django", "web_asgi"), "time", "time, ours = 1 (less is better)"),
    Plot("asyncio", bars, ("asyncio_tasks",), "speed", "speed, ours = 1 (more is better)"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="JSON from python -m benchmarks --json")
    parser.add_argument("--to", type=Path, default=Path("docs/img"), metavar="FOLDER", help="default: docs/img")
    given = parser.parse_args()
    found: dict[str, tuple[Table, str]] = {}
    for path in given.results:
        for case in measure.read(path).values():
            source = f"{case['python']}, {case['server']}, {case['cpu']}, commit {case['commit']}, {case['date']}"
            found |= {table.key: (table, source) for table in case["tables"] if table.rows}
    given.to.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type,unused-ignore]
        for plot in PLOTS:
            there = [found[key] for key in plot.tables if key in found]
            if not there:
                print(f"{plot.name}: left out, no result for {', '.join(plot.tables)}", file=sys.stderr)
                continue
            figure = plot.draw(plot, [table for table, _ in there], there[0][1])
            path = given.to / f"bench-{plot.name}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
