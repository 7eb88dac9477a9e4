"""The short-cuts of pymysql-pool 0.3.7 on a connection: `execute_query`, and a cursor that the connection keeps.

Never: reaches the server but through PyMySQL's own methods.
"""

from __future__ import annotations

import weakref
from typing import Any

from pymysql.cursors import DictCursor, SSCursor

from .._driver.mysqlclient_names import MysqlclientNames


class Conveniences(MysqlclientNames):
    __slots__ = ()

    def execute_query(
        self,
        query: str,
        args: Any = (),
        dictcursor: bool = False,
        return_one: bool = False,
        exec_many: bool = False,
    ) -> Any:
        """Run one statement, return its rows and give the connection back.

        Inside a with-block of this connection it stays lent until the block ends.

        Args:
            query: the statement, with `%s` placeholders.
            args: their values; with `exec_many` a sequence of such.
            dictcursor: rows as dicts instead of tuples.
            return_one: only the first row, None when there is none.
            exec_many: use `executemany`.

        Returns:
            All rows (an empty sequence when there is none), or one with `return_one`.
        """
        with self:
            cursor = self.cursor(DictCursor) if dictcursor else self.cursor()
            if exec_many:
                cursor.executemany(query, args)
            else:
                cursor.execute(query, args)
            return cursor.fetchone() if return_one else cursor.fetchall()

    def execute(self, query: str, args: Any = None) -> int:
        """Execute on a cursor that the connection keeps: `with connection as cur: cur.execute(...)`."""
        return self._kept_cursor().execute(query, args)  # type: ignore[no-any-return]

    def executemany(self, query: str, args: Any) -> int | None:
        return self._kept_cursor().executemany(query, args)  # type: ignore[no-any-return]

    def fetchone(self) -> Any:
        return self._kept_cursor().fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        return self._kept_cursor().fetchmany(size)

    def fetchall(self) -> Any:
        return self._kept_cursor().fetchall()

    def _kept_cursor(self) -> Any:
        kept = self.__dict__.get("_kept")
        if kept is None:
            kept = self.__dict__["_kept"] = self.cursor()
            if not isinstance(kept, SSCursor):  # which asks its connection when it ends
                kept.connection = weakref.proxy(self)  # a lease that is dropped need not wait for the garbage collector
        return kept
