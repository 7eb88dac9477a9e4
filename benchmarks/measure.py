"""Figures that survive a busy machine: short segments, interleaved and shuffled; medians; ratios within one run.

Owns how a segment is timed, in what order segments run, and what a table and its JSON look like. Knows no database
and no pool. A ratio is taken between two segments of the same round, a few milliseconds apart, and the median of
those is shown: whatever else the machine does meanwhile hits both.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import repeat
from pathlib import Path
from statistics import median, quantiles
from typing import Any

OURS = "pymysqlpool"
NOT_INSTALLED = "not installed"

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Took:
    """What one segment cost, per operation, in nanoseconds. `cpu`: of the calling thread, None where it is many."""

    wall: float
    cpu: float | None = None


Segment = Callable[[int], Took]  # runs so many operations


@dataclass(slots=True)
class Table:
    """One table of one case. The first column is the subject. `key` is what the plots find it by."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # which could not take part, and why
    note: str = ""

    def add(self, *cells: Cell) -> None:
        self.rows.append(list(cells))

    def text(self) -> str:
        lines = [[*self.columns], *[[_shown(cell) for cell in row] for row in self.rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        out = [self.title]
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            out.append("  ".join(["", first.ljust(widths[0]), *cells]).rstrip())
        out += [f"  {name}: {reason}" for name, reason in self.missing.items()]
        return "\n".join([*out, *([f"  {self.note}"] if self.note else [])])


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.1f}" if abs(cell) >= 20 else f"{cell:.2f}"
    return str(cell)


# -- timing ------------------------------------------------------------------------------------------------


def timed(body: Callable[[int], object]) -> Segment:
    """A segment that runs `body(n)`, all of which counts."""

    def segment(operations: int) -> Took:
        cpu = time.thread_time_ns()
        wall = time.perf_counter_ns()
        body(operations)
        wall = time.perf_counter_ns() - wall
        cpu = time.thread_time_ns() - cpu
        return Took(wall / operations, cpu / operations)

    return segment


def timed_each(prepare: Callable[[], Any], operation: Callable[[Any], Any], clean: Callable[[Any], object]) -> Segment:
    """A segment of which only `operation` counts: `clean(operation(prepare()))`, one at a time."""

    def segment(operations: int) -> Took:
        wall = cpu = 0
        for _ in repeat(None, operations):
            prepared = prepare()
            cpu_before, wall_before = time.thread_time_ns(), time.perf_counter_ns()
            result = operation(prepared)
            wall += time.perf_counter_ns() - wall_before
            cpu += time.thread_time_ns() - cpu_before
            clean(result)
        return Took(wall / operations, cpu / operations)

    return segment


def interleave(
    segments: Mapping[str, Segment], rounds: int, seconds: float = 0.005, most: int = 1_000_000
) -> dict[str, list[Took]]:
    """Run every segment once per round, in an order that changes; each takes about `seconds`, `most` operations.

    The number of operations is found first, by growing a segment until it is long enough, which also warms up.
    """
    operations = {name: _calibrate(segment, seconds, most) for name, segment in segments.items()}
    taken: dict[str, list[Took]] = {name: [] for name in segments}
    order = list(segments)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        gc.collect()
        for name in order:
            taken[name].append(segments[name](operations[name]))
    return taken


def _calibrate(segment: Segment, seconds: float, most: int) -> int:
    operations = 1
    segment(operations)  # which may have to connect
    while True:
        took = segment(operations)
        if took.wall * operations >= seconds * 1e9 / 4 or operations >= most:
            return max(1, min(most, round(seconds * 1e9 / took.wall)))
        operations *= 4


def ratios(taken: Sequence[Took], base: Sequence[Took], clock: str = "wall") -> list[float]:
    """Round by round, how many times as long as `base`."""
    return [getattr(one, clock) / getattr(other, clock) for one, other in zip(taken, base, strict=True)]


def compare(
    key: str,
    title: str,
    taken: Mapping[str, Sequence[Took]],
    missing: Mapping[str, str],
    *,
    ours: str = OURS,
    bare: str | None = None,
    extra: Mapping[str, Mapping[str, Cell]] | None = None,
) -> Table:
    """A table of times, fastest first: how many times as long as ours, and how fast beside `bare`.

    Args:
        extra: further columns: title to subject to cell.
    """
    further = extra or {}
    columns = ["", "time, ours = 1", "quartiles", "CPU, ours = 1"]
    columns += [f"speed, {bare} = 1"] if bare else []
    table = Table(key, title, [*columns, *further, "us, this run"], missing=dict(missing))
    for name, series in sorted(taken.items(), key=lambda item: median(took.wall for took in item[1])):
        paired = ratios(series, taken[ours])
        low, _, high = quantiles(paired, n=4)
        cells: list[Cell] = [median(paired), f"{low:.2f}-{high:.2f}", median(ratios(series, taken[ours], "cpu"))]
        cells += [median(ratios(taken[bare], series))] if bare else []
        cells += [column.get(name) for column in further.values()]
        table.add(name, *cells, median(took.wall for took in series) / 1000)
    low, middle, high = quantiles([took.wall for took in taken[ours]], n=4)
    if (high - low) / middle > MOST_SPREAD:
        table.note = f"{UNSTEADY}: half of our own times are {low / middle:.2f} to {high / middle:.2f} of their median"
    return table


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of a sorted sequence lies; the last one when there are too few."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# -- how quiet it is ---------------------------------------------------------------------------------------

UNSTEADY = "noisy"
MOST_SPREAD = 0.25  # between the quartiles of what one subject took, of their median
MOST_OTHER_WORK = 0.25  # of one CPU


def other_work(seconds: float = 0.5) -> str:
    """What there is to say of CPU time that this program does not use, measured while it sleeps; empty when it is quiet
    or where the system does not tell."""
    before = _busy()
    if before is None:
        return ""
    time.sleep(seconds)
    after = _busy()
    assert after is not None
    share = (after - before) / seconds
    if share < MOST_OTHER_WORK:
        return ""
    return f"NOISY: other programs use {share:.1f} of {os.cpu_count()} CPUs; the figures that follow mean little"


def _busy() -> float | None:
    """CPU seconds that the whole machine has used."""
    try:
        user, nice, system, _, _, *others = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except (OSError, ValueError):
        return None
    return sum(map(int, (user, nice, system, *others))) / os.sysconf("SC_CLK_TCK")


# -- where it ran ------------------------------------------------------------------------------------------


@contextmanager
def pinned(processes: Iterable[int]) -> Iterator[bool]:
    """Run this thread and all threads of `processes` on one CPU; yields whether this system can.

    Between a client and a server that wait for each other nothing is lost by that, and the time no longer depends
    on which CPUs the scheduler happened to choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    before: dict[int, set[int]] = {}
    cpu = max(os.sched_getaffinity(0))
    try:
        for thread in [0, *(thread for process in processes for thread in _threads(process))]:
            with suppress(ProcessLookupError):
                before[thread] = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, {cpu})
        yield True
    finally:
        for thread, cpus in before.items():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cpus)


def _threads(process: int) -> list[int]:
    tasks = Path("/proc", str(process), "task")
    return [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [process]


def surroundings(server: str) -> dict[str, Any]:
    """What a reader must know about where figures come from. No names of machines, users or folders."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_since_commit": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": time.strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "server": server,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


_PACKAGES = (
    "PyMySQL",
    "aiomysql",
    "asyncmy",
    "DBUtils",
    "Django",
    "django-db-connection-pool",
    "Flask",
    "mysql-connector-python",
    "mysqlclient",
    "psycopg-pool",
    "SQLAlchemy",
)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    try:
        said = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


# -- JSON --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """One case, as it is written to JSON."""

    case: str
    quick: bool
    pinned: bool
    seconds: float
    tables: list[Table]


def write(path: Path, where: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Write results to `path`; the cases that it has from elsewhere or earlier stay."""
    kept: dict[str, Any] = json.loads(path.read_text())["cases"] if path.exists() else {}
    for result in results:
        kept[result.case] = {**where, **asdict(result)}
    path.write_text(json.dumps({"cases": dict(sorted(kept.items()))}, indent=1) + "\n")


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The cases in a file that `write` wrote, by name, with tables as `Table`."""
    cases: dict[str, dict[str, Any]] = json.loads(path.read_text())["cases"]
    for case in cases.values():
        case["tables"] = [Table(**table) for table in case["tables"]]
    return cases
