"""Importing: each module in a Python of its own, against one that imports nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from statistics import median

from ..bench import Bench
from ..measure import Segment, Table, interleave, ratios, timed

NOTHING = "pass"
STATEMENTS = {
    "pymysql": "import pymysql",
    "pymysqlpool": "import pymysql, pymysqlpool",
    "pymysqlpool.ConnectionPool": "from pymysqlpool import ConnectionPool",
    "pymysqlpool.aio": "import pymysqlpool.aio",
    "sqlalchemy": "import sqlalchemy",
    "aiomysql": "import aiomysql",
}


# Compiled files are kept, as an installed package has them: what is measured is no compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(statement: str, operations: int) -> None:
    for _ in range(operations):
        subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)


def run(bench: Bench) -> list[Table]:
    missing: dict[str, str] = {}
    statements = {"nothing": NOTHING}
    for name, statement in STATEMENTS.items():
        if subprocess.run([sys.executable, "-c", statement], capture_output=True, env=ENVIRONMENT).returncode:
            missing[name] = "not installed"
        else:
            statements[name] = statement
    segments: dict[str, Segment] = {name: timed(partial(start, said)) for name, said in statements.items()}
    taken = interleave(segments, bench.pick(20, 5), most=1)
    empty = median(took.wall for took in taken["nothing"])
    base = median(took.wall for took in taken["pymysql"]) - empty
    table = Table("imports", "import of a module", ["", "time, PyMySQL = 1", "of a whole start", "ms"], missing=missing)
    for name in statements:
        own = median(took.wall for took in taken[name]) - empty
        whole = median(ratios(taken[name], taken["pymysql"]))
        table.add(name, own / base if base > 0 else None, whole, own / 1e6)
    return [table]
