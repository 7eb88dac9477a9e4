"""A parent that has used its pool before it forks, and has one connection idle and one lent at that moment."""

from __future__ import annotations

import json
import os
from typing import Any

from pymysqlpool import ConnectionPool


def make_pool() -> ConnectionPool:
    """`DATABASE` holds the arguments of `pymysql.connect()` as JSON."""
    return ConnectionPool(size=3, maxsize=3, name="prefork", **json.loads(os.environ["DATABASE"]))


def ask(pool: ConnectionPool) -> dict[str, Any]:
    """Which process and which session answers."""
    with pool.get_connection(timeout=10) as connection:
        connection.execute("select connection_id(), %s", (os.getpid(),))
        session, pid = connection.fetchone()
    return {"pid": pid, "session": session}


class Parent:
    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._lent = pool.get_connection(timeout=10)
        self.sessions = sorted([self._lent.thread_id(), ask(pool)["session"]])

    def look_after_the_children(self) -> None:
        """When children have come and gone: its own lease and its idle connection answer as before."""
        self._lent.execute("select connection_id()")
        answers = sorted([self._lent.fetchone()[0], ask(self._pool)["session"]])
        with open(os.environ["TOLD"], "w") as told:
            json.dump({"before": self.sessions, "after": answers}, told)
        self.let_go()

    def let_go(self) -> None:
        self._lent.close()
