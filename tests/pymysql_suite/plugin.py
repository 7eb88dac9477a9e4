"""A pytest plugin that puts a connection of ours in the place of PyMySQL's; `run.py` loads it.

`PYMYSQL_SUITE_SUBJECT`: `stock` (nothing is replaced), `reader` (our standalone connection), `plain` (the same without
the fast reader), `pool` (a connection lent by a pool of one).
"""

from __future__ import annotations

import os
from typing import Any

import pymysql

from pymysqlpool import ConnectionPool
from pymysqlpool.connection import Connection


class PlainConnection(Connection):
    _reads_fast = False


def lent(*arguments: Any, **named: Any) -> Any:
    if arguments or "defer_connect" in named or "read_default_file" in named:
        return Connection(*arguments, **named)  # which a pool has no use for
    named = {"autocommit": False, **named}
    return ConnectionPool(size=1, maxsize=1, **named).get_connection(retry_num=0)


SUBJECTS: dict[str, Any] = {"reader": Connection, "plain": PlainConnection, "pool": lent}


def pytest_configure() -> None:
    subject = SUBJECTS.get(os.environ["PYMYSQL_SUITE_SUBJECT"])
    if subject is None:
        return
    for name in ("connect", "Connect", "Connection"):
        setattr(pymysql, name, subject)
    if isinstance(subject, type):
        setattr(pymysql.connections, "Connection", subject)  # noqa: B010 - for mypy, a class is no variable
