"""The cursors between Django and PyMySQL.

Owns the translation of PyMySQL's errors to Django's, and two notices to the wrapper: a statement failed, a cursor was
closed. Never: acts on them; the wrapper does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, NoReturn, Protocol

import pymysql
from django.db import IntegrityError
from django.db.backends import utils

from ._mysqldb import base as mysql
from .holds import Lease, is_remembered


class Listener(Protocol):
    def statement_failed(self, error: pymysql.Error) -> None: ...

    def cursor_closed(self, lease: Lease, cursor: Any) -> None: ...


class CursorWrapper(mysql.CursorWrapper):
    """Django's wrapper, which catches PyMySQL's errors, whichever module `MySQLdb` is."""

    # `__getattr__` would find them too, by way of an AttributeError.
    fetchone: Any = property(attrgetter("cursor.fetchone"))
    fetchmany: Any = property(attrgetter("cursor.fetchmany"))
    fetchall: Any = property(attrgetter("cursor.fetchall"))
    close: Any = property(attrgetter("cursor.close"))
    description: Any = property(attrgetter("cursor.description"))
    rowcount: Any = property(attrgetter("cursor.rowcount"))
    lastrowid: Any = property(attrgetter("cursor.lastrowid"))

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


class Cursor(utils.CursorWrapper):
    """What `connection.cursor()` returns: Django's makes each of these methods anew for each call."""

    description: Any = property(attrgetter("cursor.description"))
    rowcount: Any = property(attrgetter("cursor.rowcount"))
    lastrowid: Any = property(attrgetter("cursor.lastrowid"))
    close: Any = property(attrgetter("cursor.close"))

    def fetchone(self) -> Any:
        try:
            return self.cursor.fetchone()
        except pymysql.Error:
            with self.db.wrap_database_errors:
                raise

    def fetchmany(self, size: int | None = None) -> Any:
        try:
            return self.cursor.fetchmany(size)
        except pymysql.Error:
            with self.db.wrap_database_errors:
                raise

    def fetchall(self) -> Any:
        try:
            return self.cursor.fetchall()
        except pymysql.Error:
            with self.db.wrap_database_errors:
                raise


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
