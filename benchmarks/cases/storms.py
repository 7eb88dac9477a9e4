"""A link that ends all connections every 50 ms, by FIN or by RST: statements that succeed meanwhile.

16 threads on 8 connections, ours beside SQLAlchemy's pool with `pre_ping`, its remedy for dead connections; ours has
none. A failed statement ends its connection and is not tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import pymysql

from pymysqlpool import ConnectionPool
from tests.proxy import Proxy

from ..bench import Bench
from ..measure import OURS, Table
from ..peers import NotInstalled, load, query

THREADS, SIZE = 16, 8
INTERVAL = 0.05  # seconds between two cuts
PEER = "SQLAlchemy, pre_ping"

Statement = Callable[[], Any]


def _ours(connect: dict[str, Any]) -> tuple[Statement, Callable[[], Any]]:
    pool = ConnectionPool(size=SIZE, maxsize=SIZE, timeout=5, **connect)

    def statement() -> None:
        connection = pool.get_connection()
        try:
            query(connection)
        finally:
            connection.close()

    return statement, pool.close


def _sqlalchemys(connect: dict[str, Any]) -> tuple[Statement, Callable[[], Any]]:
    options = {"pool_size": SIZE, "max_overflow": 0, "pool_timeout": 5, "pool_pre_ping": True}
    creator = partial(pymysql.connect, **connect)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it logs each lost connection
    engine = load("sqlalchemy", "SQLAlchemy").create_engine("mysql+pymysql://", creator=creator, **options)

    def statement() -> None:
        connection = engine.raw_connection()
        try:
            query(connection)
        except pymysql.err.MySQLError:
            connection.invalidate()
            raise
        finally:
            connection.close()

    return statement, engine.dispose


def _storm(statement: Statement, end: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Statements that succeed, and that fail, in a second."""
    over = threading.Event()
    good, failed = [0] * THREADS, [0] * THREADS

    def work(index: int) -> None:
        while not over.is_set():
            try:
                statement()
            except Exception:  # noqa: BLE001 - whatever a peer raises is a failure
                failed[index] += 1
            else:
                good[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(INTERVAL)
        end()
    over.set()
    for thread in threads:
        thread.join()
    return sum(good) / seconds, sum(failed) / seconds


def run(bench: Bench) -> list[Table]:
    tables = []
    seconds = bench.pick(3.0, 0.5)
    with Proxy((bench.tcp["host"], bench.tcp["port"])) as proxy:
        connect = {**bench.tcp, "port": proxy.port, "read_timeout": 5}
        for key, title, end in (("fin", "FIN", proxy.cut), ("rst", "RST", proxy.reset)):
            figures: dict[str, list[tuple[float, float]]] = {}
            missing: dict[str, str] = {}
            for _ in range(bench.pick(5, 1)):
                for name, make in ((OURS, _ours), (PEER, _sqlalchemys)):
                    try:
                        statement, close = make(connect)
                    except NotInstalled as error:
                        missing[name] = str(error)
                        continue
                    figures.setdefault(name, []).append(_storm(statement, end, seconds))
                    close()
            table = Table(
                f"storms_{key}",
                f"A {title} on every connection each 50 ms",
                ["", "good/s", "failed/s", "good, ours = 1"],
            )
            base = median(good for good, _ in figures[OURS])
            for name, them in figures.items():
                good = median(one for one, _ in them)
                table.add(name, good, median(one for _, one in them), good / base)
            table.missing = missing
            tables.append(table)
    return tables
