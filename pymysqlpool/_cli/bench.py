"""`bench`: what a connect, a borrow and a statement cost on this server, beside a plain connection in the same run.

Owns: the measurement. Never: writes to the server.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import pymysql

from ..pool import ConnectionPool

_ROUND = 50  # calls between two readings of the clock


def run(where: dict[str, Any], given: argparse.Namespace) -> int:
    seconds = given.seconds

    def connect() -> None:
        pymysql.connect(**where).close()

    plain = pymysql.connect(**where)
    with ConnectionPool(size=1, maxsize=1, **where) as pool:

        def borrow() -> None:
            pool.get_connection().close()

        def select_plain() -> None:
            with plain.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()

        def select_pooled() -> None:
            with pool.get_connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()

        _show("connect and close, plain PyMySQL", connect, seconds, each=1)
        _show("SELECT 1 on one plain connection", select_plain, seconds)
        _show("borrow, SELECT 1, return", select_pooled, seconds)
        _show("borrow, return", borrow, seconds)
    plain.close()
    return 0


def _show(what: str, call: Callable[[], None], seconds: float, each: int = _ROUND) -> None:
    """Say what is measured, measure it, and show its cost."""
    print(f"  {what:34s} ", end="", flush=True)
    cost = _cost(call, seconds, each)
    amount, unit = (cost * 1e3, "ms") if cost >= 1e-3 else (cost * 1e6, "us")
    print(f"{amount:9.2f} {unit}", flush=True)


def _cost(call: Callable[[], None], seconds: float, each: int) -> float:
    """The median of the seconds that one call takes, measured for `seconds`."""
    call()
    costs: list[float] = []
    until = perf_counter() + seconds
    while not costs or perf_counter() < until:
        began = perf_counter()
        for _ in range(each):
            call()
        costs.append((perf_counter() - began) / each)
    return median(costs)
