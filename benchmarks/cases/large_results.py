"""10,000 rows, narrow (2 integers) and wide (20 columns of mixed types), and 6,000 unbuffered, beside the drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pymysql

from ..bench import Bench
from ..measure import OURS, Segment, Table, compare, interleave, timed
from ..peers import BARE, Bare, NotInstalled, Ours, Peer, load, query

ROWS = 10_000
UNBUFFERED_ROWS = 6_000
WIDE = ", ".join(
    f"i{n} INT, s{n} VARCHAR(40), d{n} DATETIME, f{n} DOUBLE, c{n} DECIMAL(10,2)"  # 4 of each
    for n in range(4)
)


def create(connection: Any) -> None:
    query(connection, "CREATE OR REPLACE TABLE narrow (id INT PRIMARY KEY, v INT)")
    query(connection, f"CREATE OR REPLACE TABLE wide ({WIDE})")
    cursor = connection.cursor()
    cursor.executemany("INSERT INTO narrow VALUES (%s, %s)", [(n, n * 7) for n in range(ROWS)])
    row = [value for n in range(4) for value in (n, f"text of column {n}, ü", "2024-02-29 12:34:56", n / 3, "12345.67")]
    cursor.executemany(f"INSERT INTO wide VALUES ({', '.join(['%s'] * len(row))})", [row] * ROWS)
    connection.commit()
    cursor.close()


def through(peer: Peer, statement: str) -> Callable[[int], None]:
    def body(operations: int) -> None:
        for _ in range(operations):
            connection = peer.borrow()
            assert len(query(connection, statement)) == ROWS
            peer.give_back(connection)

    return body


def in_batches(peer: Peer, kind: Any) -> Callable[[int], None]:
    def body(operations: int) -> None:
        connection = peer.borrow()
        _fetch_in_batches(connection, kind, operations)
        peer.give_back(connection)

    return body


def _fetch_in_batches(connection: Any, kind: Any, operations: int) -> None:
    for _ in range(operations):
        cursor = connection.cursor(kind)
        cursor.execute(f"SELECT i0, s0, c0, d0, s1, NULL FROM wide LIMIT {UNBUFFERED_ROWS}")
        number = 0
        while rows := cursor.fetchmany(500):
            number += len(rows)
        assert number == UNBUFFERED_ROWS
        cursor.close()


def mysqlclient(connect: Mapping[str, Any]) -> Any:
    """A connection of the driver written in C, without TLS.

    Raises:
        NotInstalled: it is not there.
    """
    module = load("MySQLdb", "mysqlclient, which needs a compiler and libmariadb-dev")
    arguments = {name: value for name, value in connect.items() if name != "ssl_disabled"}
    return module.connect(**arguments, ssl_mode="DISABLED", charset="utf8mb4")


def run(bench: Bench) -> list[Table]:
    ours, bare = Ours(bench.tcp, 1), Bare(bench.tcp)
    create(bare.borrow())
    missing: dict[str, str] = {}
    compiled = None
    try:
        compiled = mysqlclient(bench.tcp)
    except NotInstalled as error:
        missing["mysqlclient"] = str(error)
    tables = []
    unbuffered = {OURS: (ours, pymysql.cursors.SSCursor), BARE: (bare, pymysql.cursors.SSCursor)}
    with bench.pinned(bench.server.pid):
        for shape, title in (("narrow", "2 integer columns"), ("wide", "20 columns of mixed types")):
            statement = f"SELECT * FROM {shape}"
            segments: dict[str, Segment] = {
                OURS: timed(through(ours, statement)),
                BARE: timed(through(bare, statement)),
            }
            if compiled is not None:
                segments["mysqlclient"] = timed(partial(_repeat_query, compiled, statement))
            taken = interleave(segments, bench.pick(20, 5), seconds=0.1, most=3)
            tables.append(compare(f"large_{shape}", f"10,000 rows of {title}", taken, missing, bare=BARE))
        segments = {name: timed(in_batches(peer, kind)) for name, (peer, kind) in unbuffered.items()}
        if compiled is not None:
            segments["mysqlclient"] = timed(partial(_fetch_in_batches, compiled, load("MySQLdb.cursors", "").SSCursor))
        taken = interleave(segments, bench.pick(20, 5), seconds=0.1, most=3)
        title = "6,000 rows of 6 columns, SSCursor, fetchmany(500)"
        tables.append(compare("large_unbuffered", title, taken, missing, bare=BARE))
    ours.close()
    bare.close()
    if compiled is not None:
        compiled.close()
    return tables


def _repeat_query(connection: Any, statement: str, operations: int) -> None:
    for _ in range(operations):
        assert len(query(connection, statement)) == ROWS
