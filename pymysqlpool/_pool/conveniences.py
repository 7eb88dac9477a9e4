"""The short-cuts of pymysql-pool on a connection: `execute_query`, `args`, and a cursor that the connection keeps.

Owns: these methods. Never: reaches the server except through PyMySQL's own methods.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pymysql.cursors import DictCursor, SSCursor

from .._driver.mysqlclient_names import MysqlclientNames
from ..secrets import Arguments, reveal

if TYPE_CHECKING:
    from .._driver.former_cursors import Cursor

C = TypeVar("C")


class Conveniences(MysqlclientNames):
    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def cursor(self, cursor: None = None) -> Cursor: ...
        @overload
        def cursor(self, cursor: type[C]) -> C: ...
        def cursor(self, cursor: Any = None) -> Any: ...

    args: tuple[()] = ()  # of `kwargs`, which holds them all

    @property
    def kwargs(self) -> Arguments:
        """What the connection was made with, as arguments of `pymysql.connect()`. It prints without the password."""
        return Arguments(reveal(self._arguments()))

    def _arguments(self) -> Mapping[str, Any]:
        raise NotImplementedError

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

    @property
    def rowcount(self) -> int:
        """Of the cursor that the connection keeps, as the three that follow."""
        return self._kept_cursor().rowcount  # type: ignore[no-any-return]

    @property
    def lastrowid(self) -> int | None:
        return self._kept_cursor().lastrowid  # type: ignore[no-any-return]

    @property
    def description(self) -> Any:
        return self._kept_cursor().description

    def __iter__(self) -> Iterator[Any]:
        return iter(self._kept_cursor())

    def _kept_cursor(self) -> Any:
        kept = self.__dict__.get("_kept")
        if kept is None:
            kept = self.__dict__["_kept"] = self.cursor()
            if not isinstance(kept, SSCursor):  # which asks its connection when it ends
                kept.connection = weakref.proxy(self)  # a lease that is dropped need not wait for the garbage collector
        return kept
