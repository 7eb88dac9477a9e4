"""Statements with arguments, a bulk INSERT, rows as dicts: what the client does around a statement."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from itertools import count
from typing import Any

from pymysql.cursors import DictCursor

from ..bench import Bench
from ..measure import OURS, Segment, Table, compare, interleave, timed
from ..peers import BARE, Bare, NotInstalled, Ours, load, query
from .large_results import mysqlclient

ROWS = [
    (number, f"name {number}", number * 1.5, datetime.datetime(2024, 1, 2, 3, 4, 5), "x" * 20, None)
    for number in range(2000)
]
COLUMNS = "a INT, b VARCHAR(40), c DOUBLE, d DATETIME, e VARCHAR(40), f INT"
INSERT = "INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s)"
_number = count()


def bulk_insert(connection: Any, kind: Any = None) -> None:
    cursor = connection.cursor()
    cursor.executemany(INSERT.format("bulk"), ROWS)
    cursor.close()
    connection.rollback()


def single_inserts(connection: Any, kind: Any = None) -> None:
    cursor = connection.cursor()
    statement = INSERT.format("bulk")
    for row in ROWS[:200]:
        cursor.execute(statement, row)
    cursor.close()
    connection.rollback()


def selects(connection: Any, kind: Any = None) -> None:
    """Each with values that no statement before had."""
    cursor = connection.cursor()
    for _, text, fraction, *_ in ROWS[:200]:
        cursor.execute("SELECT a, b FROM dicts WHERE a = %s AND b = %s AND c = %s", (next(_number), text, fraction))
        cursor.fetchall()
    cursor.close()


def dicts(connection: Any, kind: Any) -> None:
    cursor = connection.cursor(kind)
    cursor.execute("SELECT * FROM dicts")
    assert len(cursor.fetchall()) == 3 * len(ROWS)
    cursor.close()


CASES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("statements_bulk", "executemany, INSERT of 2,000 rows of 6 columns", bulk_insert),
    ("statements_inserts", "200 INSERTs with 6 arguments each", single_inserts),
    ("statements_selects", "200 SELECTs with 3 arguments each", selects),
    ("statements_dicts", "6,000 rows of 6 columns, DictCursor", dicts),
)


def run(bench: Bench) -> list[Table]:
    ours, bare = Ours(bench.tcp, 1), Bare(bench.tcp)
    subjects: dict[str, tuple[Any, Any]] = {OURS: (ours.borrow(), DictCursor), BARE: (bare.borrow(), DictCursor)}
    missing: dict[str, str] = {}
    try:
        subjects["mysqlclient"] = mysqlclient(bench.tcp), load("MySQLdb.cursors", "mysqlclient").DictCursor
    except NotInstalled as error:
        missing["mysqlclient"] = str(error)
    maker = bare.borrow()
    for table in ("bulk", "dicts"):
        query(maker, f"CREATE OR REPLACE TABLE {table} ({COLUMNS}, KEY (a))")
    maker.cursor().executemany(INSERT.format("dicts"), ROWS * 3)
    maker.commit()
    tables = []
    with bench.pinned(bench.server.pid):
        for key, title, body in CASES:
            segments: dict[str, Segment] = {
                name: timed(lambda operations, body=body, of=of: [body(*of) for _ in range(operations)])  # type: ignore[misc]
                for name, of in subjects.items()
            }
            taken = interleave(segments, bench.pick(20, 5), seconds=0.05, most=3)
            tables.append(compare(key, title, taken, missing, bare=BARE))
    for connection, _ in subjects.values():
        connection.close()
    ours.close()
    return tables
