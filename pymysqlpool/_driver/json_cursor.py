"""aiomysql's `DeserializationCursor`: JSON columns of MySQL as Python's values.

MariaDB's JSON columns are texts on the wire, so they stay texts there, as with aiomysql. Never: changes the cursors of
other classes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from pymysql.constants import FIELD_TYPE
from pymysql.cursors import Cursor, DictCursorMixin, SSCursor


class DeserializationCursor(Cursor):
    """A cursor that returns the values of JSON columns decoded; a text that is no JSON stays a text."""

    _found: tuple[Any, list[tuple[int, str]]] = (None, [])  # a description, and the place and name of its JSON columns

    def _do_get_result(self) -> None:
        super()._do_get_result()  # type: ignore[misc]
        own: Any = self
        if own._rows and not isinstance(self, DictCursorMixin | SSCursor):  # those convert each row
            own._rows = [self._conv_row(row) for row in own._rows]

    def _conv_row(self, row: Any) -> Any:
        row = super()._conv_row(row)  # type: ignore[misc]
        if row is None:
            return None
        description: Any = self.description
        if self._found[0] is not description:
            columns = [(place, column[0]) for place, column in enumerate(description) if column[1] == FIELD_TYPE.JSON]
            self._found = description, columns
        columns = self._found[1]
        if not columns:
            return row
        values = row if isinstance(row, dict) else list(row)
        for place, name in columns:
            with suppress(ValueError, TypeError, KeyError):
                key: Any = name if values is row else place
                values[key] = json.loads(values[key])
        return values if values is row else tuple(values)
