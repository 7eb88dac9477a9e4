"""A cursor as aiomysql's, for `pymysqlpool.aiomysql`.

Never: has a name that aiomysql's has not, but for what it inherits.
"""

from __future__ import annotations

from typing import Any

from .._driver import cursors as _cursors
from .cursor import AsyncCursor


class CompatCursor(AsyncCursor):
    """`connection.cursor()`, to be awaited, entered, or used as it is."""

    @property
    def _result(self) -> Any:
        """Of the last statement: tortoise-orm takes the names of its columns from it."""
        return _cursors.result_of(self._cursor)

    @property
    def warning_count(self) -> int:
        return self._cursor.warning_count  # type: ignore[no-any-return]
