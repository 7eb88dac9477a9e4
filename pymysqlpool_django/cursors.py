"""The cursors between Django and PyMySQL.

Owns the translation of PyMySQL's errors to Django's, and two notices to the wrapper: a statement failed, a cursor was
closed. Never: acts on them; the wrapper does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

import pymysql
from django.db import IntegrityError

from ._mysqldb import base as mysql
from .holds import Lease, is_remembered


class Listener(Protocol):
    def statement_failed(self, error: pymysql.Error) -> None: ...

    def cursor_closed(self, lease: Lease, cursor: Any) -> None: ...


class CursorWrapper(mysql.CursorWrapper):
    """Django's wrapper, which catches PyMySQL's errors, whichever module `MySQLdb` is."""

    def __init__(self, cursor: Any, wrapper: Listener) -> None:
        self.cursor = cursor
        self._wrapper = wrapper

    def execute(self, query: str, args: Any = None) -> Any:
        try:
            return self.cursor.execute(query, args)
        except pymysql.Error as error:
            self._failed(error)

    def executemany(self, query: str, args: Iterable[Any]) -> Any:
        try:
            return self.cursor.executemany(query, args)
        except pymysql.Error as error:
            self._failed(error)

    def callproc(self, name: str, args: Any = ()) -> Any:
        try:
            return self.cursor.callproc(name, args)
        except pymysql.Error as error:
            self._failed(error)

    def _failed(self, error: pymysql.Error) -> NoReturn:
        if (
            isinstance(error, pymysql.OperationalError)
            and error.args
            and error.args[0] in self.codes_for_integrityerror
        ):
            raise IntegrityError(*error.args) from error
        self._wrapper.statement_failed(error)
        raise error


class LentCursor(CursorWrapper):
    """A cursor of a borrowed connection: notes statements that leave state in the session."""

    def __init__(self, cursor: Any, wrapper: Listener, lease: Lease) -> None:
        self.cursor = cursor
        self._wrapper = wrapper
        self._lease = lease

    def execute(self, query: str, args: Any = None) -> Any:
        if is_remembered(query):
            self._lease.remembers = True
        try:
            return self.cursor.execute(query, args)
        except pymysql.Error as error:
            self._failed(error)

    def callproc(self, name: str, args: Any = ()) -> Any:
        self._lease.remembers = True
        return super().callproc(name, args)


class HoldingCursor(LentCursor):
    """A cursor that keeps its connection until it is closed, where a return may come before Django's close."""

    def close(self) -> None:
        close: Callable[[], None] = self.cursor.close
        try:
            close()
        finally:
            self._wrapper.cursor_closed(self._lease, self)
