"""A cursor with the names of aiomysql's cursor, for `pymysqlpool.aiomysql`.

Never: adds a name that aiomysql's cursor lacks, except for inherited ones.
"""

from __future__ import annotations

from typing import Any

from .._driver import cursors as _cursors
from .cursor import AsyncCursor


class CompatCursor(AsyncCursor):
    """What `connection.cursor()` returns: await it, enter it with `async with`, or use it directly."""

    @property
    def _result(self) -> Any:
        """The result of the last statement; tortoise-orm reads the column names from it."""
        return _cursors.result_of(self._cursor)

    @property
    def _last_executed(self) -> Any:
        """The last statement as it was sent; tests of users read it."""
        return _cursors.executed_by(self._cursor)

    @property
    def echo(self) -> bool:
        return False

    @property
    def warning_count(self) -> int:
        return self._cursor.warning_count  # type: ignore[no-any-return]
