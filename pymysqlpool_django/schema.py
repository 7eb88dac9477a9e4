"""A schema editor keeps one connection for all that it does, also with `"release": "transaction"`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _mysqldb

if TYPE_CHECKING:
    from .base import DatabaseWrapper


class DatabaseSchemaEditor(_mysqldb.schema.DatabaseSchemaEditor):
    connection: DatabaseWrapper

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
