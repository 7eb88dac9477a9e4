"""`db_query` and `db_modify` of pymysql-pool 0.5.0, on cursors that are PyMySQL's otherwise.

Owns: the cursor classes of a pool, where PyMySQL's `Cursor` or `DictCursor` is asked for. Never: replaces another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pymysql import cursors

from . import buffered

if TYPE_CHECKING:
    _Cursor = cursors.Cursor
    _DictCursor = cursors.DictCursor
    _Methods = cursors.Cursor
else:
    _Cursor = buffered.BufferedCursor if buffered.IS_KNOWN else cursors.Cursor
    _DictCursor = buffered.BufferedDictCursor if buffered.IS_KNOWN else cursors.DictCursor
    _Methods = object


class _Former(_Methods):
    if TYPE_CHECKING:  # rows are tuples or dicts, by the pool's `cursorclass`

        def fetchone(self) -> Any: ...
        def fetchmany(self, size: int | None = None) -> Any: ...
        def fetchall(self) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...

    def db_query(self, query: str, args: Any = ()) -> Any:
        """Execute `query` and return all its rows."""
        self.execute(query, args)
        return self.fetchall()

    def db_modify(self, query: str, args: Any = (), exec_many: bool = False) -> dict[str, Any]:
        """Execute `query`, with `exec_many` for each of `args`; returns {'rowcount': ..., 'lastrowid': ...}."""
        if exec_many:
            self.executemany(query, args)
        else:
            self.execute(query, args)
        return {"rowcount": self.rowcount, "lastrowid": self.lastrowid}


class Cursor(_Former, _Cursor):
    """`pymysql.cursors.Cursor`, with the two methods of pymysql-pool 0.5.0."""


class DictCursor(_Former, _DictCursor):
    """`pymysql.cursors.DictCursor`, with the two methods of pymysql-pool 0.5.0."""


Cursor.__module__ = DictCursor.__module__ = cursors.__name__  # a traceback or a repr shows what a user knows

_INSTEAD: dict[Any, Any] = {None: Cursor, cursors.Cursor: Cursor, cursors.DictCursor: DictCursor}


def cursor_class(wanted: Any) -> Any:
    """Return the class of a pool's cursors for the option `cursorclass=wanted`."""
    try:
        return _INSTEAD.get(wanted, wanted)
    except TypeError:  # an unhashable value is not one of these
        return wanted
