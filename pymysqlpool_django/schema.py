"""The schema editor: keeps one connection from its beginning to its end, and quotes values as Django expects.

Never: changes the SQL that Django makes.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from . import _mysqldb


class _Quoted(bytes):
    """A quoted value: bytes, as mysqlclient returns it; formatted into SQL text it is PyMySQL's literal."""

    literal: str

    def __str__(self) -> str:
        return self.literal


class DatabaseSchemaEditor(_mysqldb.schema.DatabaseSchemaEditor):
    connection: Any  # the wrapper of this package, with hold() and let_go()

    def __enter__(self) -> Self:
        self.connection.hold()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, where)
        finally:
            self.connection.let_go()

    def quote_value(self, value: Any) -> Any:
        quoted = super().quote_value(value)
        if not isinstance(value, (bytes, bool)) or not isinstance(quoted, str):
            return quoted
        if isinstance(value, bytes):
            both = _Quoted(b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'")
        else:
            both = _Quoted(quoted.encode())
        both.literal = quoted
        return both
