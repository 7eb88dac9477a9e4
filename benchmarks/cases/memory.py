"""Memory of an idle connection: the growth of a process from 10 to 110 of them, one process per peer.

`private` is what the system says the process has of its own; `Python` is what Python's allocator says (tracemalloc,
in a second process, because tracing itself takes memory). mysql-connector's pool holds 32 at most: from 10 to 32.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

from ..bench import ROOT, Bench
from ..measure import OURS, Table
from ..peers import ALL, ConnectPerQuery, MySQLConnector, NotInstalled, Peer

FEW, MANY = 10, 110


def run(bench: Bench) -> list[Table]:
    kinds = [kind for kind in ALL if kind is not ConnectPerQuery and "," not in kind.name]
    figures: dict[str, tuple[float, float]] = {}
    missing: dict[str, str] = {}
    for kind in kinds:
        said = [ask(kind, bench.tcp, how) for how in ("private", "python")]
        if isinstance(said[0], str):
            missing[kind.name] = said[0]
        else:
            figures[kind.name] = (float(said[0]), float(said[1]))
    table = Table(
        "memory",
        "Memory per idle connection",
        ["", "private, ours = 1", "Python, ours = 1", "private KiB", "Python KiB"],
    )
    base = figures[OURS]
    for name, (private, python) in sorted(figures.items(), key=lambda item: item[1][1]):
        table.add(name, private / base[0] if base[0] else None, python / base[1], private, python)
    table.missing = missing
    return [table]


def ask(kind: type[Peer], connect: dict[str, Any], how: str) -> float | str:
    """KiB per connection of `kind` in a process of its own; a reason where it is not there."""
    task = json.dumps({"peer": kind.name, "connect": connect, "how": how})
    command = [sys.executable, "-m", __name__, task]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if said.returncode:
        raise RuntimeError(f"measuring {kind.name} failed:\n{said.stderr}")
    answer: float | str = json.loads(said.stdout)
    return answer


def grow(kind: type[Peer], connect: dict[str, Any], how: str) -> float:
    many = min(MANY, MySQLConnector.most) if kind is MySQLConnector else MANY
    kept = [holding(kind, connect, FEW)]
    if how == "python":
        tracemalloc.start()
    before = now(how)
    kept.append(holding(kind, connect, many - FEW))
    gc.collect()
    grown = now(how) - before
    for peer in kept:
        peer.close()
    return grown / (many - FEW)


def holding(kind: type[Peer], connect: dict[str, Any], number: int) -> Peer:
    peer = kind(connect, number)
    peer.fill(number)
    return peer


def now(how: str) -> float:
    """KiB."""
    gc.collect()
    if how == "python":
        return tracemalloc.get_traced_memory()[0] / 1024
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return 0.0
    lines = rollup.read_text().splitlines()
    return float(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")))


def _child(task: str) -> None:
    given = json.loads(task)
    kind = next(kind for kind in ALL if kind.name == given["peer"])
    try:
        print(json.dumps(grow(kind, given["connect"], given["how"])))
    except NotInstalled as error:
        print(json.dumps(str(error)))


if __name__ == "__main__":
    _child(sys.argv[1])
