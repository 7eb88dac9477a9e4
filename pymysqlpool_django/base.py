"""Django's MySQL backend on PyMySQL, with a pool behind `OPTIONS["pool"]`.

Owns where Django's hooks meet the driver and the pool: connecting, the cursor, closing. SQL, features, introspection
and operations are those of the installed Django. Every place where its backend refers to the `MySQLdb` module is
overridden, so that it works beside an installed mysqlclient.

Without `OPTIONS["pool"]`, and for the nameless connection that creates and drops test databases, it behaves as
Django's backend does.

A wrapper belongs to one thread. What it borrows goes back when Django closes it: at the end of a request, of a task,
of a test; and in a thread of an executor, which may never hear of such an end, at the end of the piece of work for
which it was borrowed (see `work`). With `"release": "transaction"` it goes back as soon as nothing holds it.

What holds a connection: a transaction, an open cursor, a schema editor, disabled constraint checks, autocommit off, a
wrapper that threads share, `hold()`; and from one piece of work of a request to the next a statement that the session
remembers (`SET`, user variables, GET_LOCK(), temporary tables). With `"release": "transaction"`, and between pieces of
work outside of a request, what a session remembers is gone; `hold()` is for those who need it.

Django sends `connection_created` at each checkout. For what belongs to a physical connection there is the pool option
`on_connect`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Literal, NoReturn, cast
from weakref import WeakSet

import pymysql
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.utils import typecast_time
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property
from pymysql.constants import FIELD_TYPE, SERVER_STATUS
from pymysql.converters import conversions

from pymysqlpool import Connection, ConnectionPool, ReturnConnectionToPoolError

from . import pools, work
from ._mysqldb import base as mysql
from .creation import DatabaseCreation
from .features import DatabaseFeatures
from .schema import DatabaseSchemaEditor

# PyMySQL reads TIME as a timedelta, Django wants a time.
_CONVERSIONS = {**conversions, FIELD_TYPE.TIME: typecast_time}

# Statements whose effect the same borrower may count on later.
_REMEMBERED = ("SET", "USE", "LOCK", "PREPARE", "HANDLER", "CALL", "XA")


def _is_remembered(query: Any) -> bool:
    """Whether the session may keep what this statement does. Its values are not in the text yet."""
    text = query.upper() if isinstance(query, str) else "@"
    return text.lstrip().startswith(_REMEMBERED) or "@" in text or "GET_LOCK" in text or "TEMPORARY" in text


class CursorWrapper(mysql.CursorWrapper):
    """Django's, catching PyMySQL's errors, whichever module `MySQLdb` is."""

    def execute(self, query: str, args: Any = None) -> Any:
        try:
            return self.cursor.execute(query, args)
        except pymysql.OperationalError as error:
            self._reraise(error)

    def executemany(self, query: str, args: Iterable[Any]) -> Any:
        try:
            return self.cursor.executemany(query, args)
        except pymysql.OperationalError as error:
            self._reraise(error)

    def _reraise(self, error: pymysql.OperationalError) -> NoReturn:
        if error.args and error.args[0] in self.codes_for_integrityerror:
            raise IntegrityError(*error.args) from error
        raise error


class _HoldingCursor(CursorWrapper):
    """A cursor of a wrapper that may give its connection back before Django closes it: not before its cursors are
    closed."""

    def __init__(self, cursor: Any, wrapper: DatabaseWrapper) -> None:
        super().__init__(cursor)
        self._wrapper = wrapper

    def execute(self, query: str, args: Any = None) -> Any:
        if self._wrapper._ends_with_work and _is_remembered(query):
            self._wrapper._remembers = True
        return super().execute(query, args)

    def callproc(self, name: str, args: Any = ()) -> Any:
        self._wrapper._remembers = True
        return self.cursor.callproc(name, args)

    def close(self) -> None:
        try:
            self.cursor.close()
        finally:
            self._wrapper._cursors.discard(self)
            self._wrapper._release_if_free()


class DatabaseWrapper(mysql.DatabaseWrapper):
    Database = pymysql  # drives the translation of exceptions
    SchemaEditorClass = DatabaseSchemaEditor
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures

    # What `connection` was borrowed from; None when it was not.
    _lender: pools.Lender | None = None
    _borrowed_by = 0  # process id
    _holds = 0  # blocks of code in progress that keep the connection from being released early
    _constraints_off = False  # of this connection
    _item: weakref.ref[Future[Any]] | None = None  # the work item that calls `_work_ended()`
    _ends_with_work = False  # it was borrowed for a piece of work of an executor, at whose end it goes back
    _is_due = False  # that work is over, but something held the connection then
    _remembers = False  # the session was told something that a later statement may count on
    _is_set_up = False  # `connect()` need not send the session's set-up statements

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: WeakSet[_HoldingCursor] = WeakSet()  # open ones, where Django's close() is not awaited

    # -- the pool ------------------------------------------------------------------------------------------

    @property
    def pool(self) -> ConnectionPool | None:
        """The pool for the settings as they are now, or None. The first use makes it, which opens no connection."""
        lender = self._find_lender(self.get_connection_params())
        return lender.pool if lender is not None else None

    def close_pool(self) -> None:
        """Close this alias's idle connections in this process now, lent ones as they come home.

        The next query makes a new pool. May be called again, and from any thread.
        """
        if self.alias != NO_DB_ALIAS:
            pools.close(self.alias)

    def _find_lender(self, params: dict[str, Any]) -> pools.Lender | None:
        wanted = self.settings_dict["OPTIONS"].get("pool")
        if not wanted or self.alias == NO_DB_ALIAS:
            return None
        wish = pools.Wish(
            # Django sets it after connecting; here it is so from the start, and costs no round trip.
            {**params, "autocommit": bool(self.settings_dict["AUTOCOMMIT"])},
            self.isolation_level,
            dict(wanted) if isinstance(wanted, dict) else wanted,
        )
        lender = pools.lender(self.alias, wish)
        if lender is None:
            if self.settings_dict["CONN_MAX_AGE"] != 0:
                raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
            lender = pools.make_lender(self.alias, wish, bool(self.settings_dict["CONN_HEALTH_CHECKS"]))
        return lender

    # -- connecting ----------------------------------------------------------------------------------------

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        params.pop("pool", None)
        if params["conv"] is mysql.django_conversions:
            params["conv"] = _CONVERSIONS
        return params

    def connect(self) -> None:
        self._holds += 1  # a receiver of connection_created may run queries, and must not give it away
        try:
            super().connect()
            self._remembers = False  # of what set it up nothing is forgotten
        except BaseException:
            if self._lender is not None:
                self._close()  # it could not be set up; let somebody else have it
            raise
        finally:
            self._holds -= 1

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        lender = self._find_lender(conn_params)
        if lender is None:
            return Connection(**conn_params)  # PyMySQL's, with mysqlclient's names
        # No patience before growing from `size` to `maxsize`: a request that waits helps nobody.
        connection = lender.pool.get_connection(retry_num=0)
        connection.note_place()
        self._lender = lender
        self._borrowed_by = os.getpid()
        self._is_set_up = lender.sets_up
        if not lender.early and work.request() is not work.Request.WSGI:
            self._go_with_work()
        return connection

    def _go_with_work(self) -> None:
        """Let the end of the work item that this thread is in, if it is in one, be the end of the lease."""
        item = work.item()
        if item is None:
            return
        self._ends_with_work = True
        if self._item is not None and self._item() is item:
            return
        self._item = weakref.ref(item)
        mine = weakref.ref(self)

        def ended(item: object) -> None:  # called in this thread
            wrapper = mine()
            if wrapper is not None and wrapper._lender is not None:
                wrapper._work_ended()

        item.add_done_callback(ended)

    def init_connection_state(self) -> None:
        BaseDatabaseWrapper.init_connection_state(self)  # checks the server's version, once per process
        if self._is_set_up:
            self._is_set_up = False
            return
        statements = []
        if self.isolation_level:
            statements.append(f"SET SESSION TRANSACTION ISOLATION LEVEL {self.isolation_level.upper()}")
        if self.features.is_sql_auto_is_null_enabled:
            statements.append("SET SQL_AUTO_IS_NULL = 0")
        if statements:
            with self.cursor() as cursor:
                for statement in statements:  # PyMySQL sends one at a time
                    cursor.execute(statement)

    @cached_property
    def mysql_server_data(self) -> dict[str, Any]:
        lender = self._lender or self._find_lender(self.get_connection_params())
        if lender is None:
            return super().mysql_server_data
        if lender.server_data is None:
            lender.server_data = super().mysql_server_data
        return lender.server_data

    # -- using ---------------------------------------------------------------------------------------------

    def _cursor(self, name: str | None = None) -> Any:
        self._holds += 1  # what runs while connecting must not give the connection away
        try:
            return super()._cursor(name)  # type: ignore[misc]  # not in the stubs
        finally:
            self._holds -= 1

    @async_unsafe
    def create_cursor(self, name: str | None = None) -> CursorWrapper:
        cursor = self.connection.cursor()
        if self._lender is None or not (self._lender.early or self._ends_with_work):
            return CursorWrapper(cursor)
        holding = _HoldingCursor(cursor, self)
        self._cursors.add(holding)
        return holding

    def _rollback(self) -> None:
        with suppress(pymysql.NotSupportedError):
            BaseDatabaseWrapper._rollback(self)  # type: ignore[attr-defined]  # not in the stubs

    def is_usable(self) -> bool:
        if self.connection is None:
            return False
        try:
            self.connection.ping(reconnect=False)
        except Exception:  # noqa: BLE001 - whatever it is, the connection cannot be used
            return False
        return True

    def close_if_health_check_failed(self) -> None:
        """Before each use. The pool looks at a connection before it lends it, so only a fork can have spoiled it."""
        if self._lender is None:
            if not self.settings_dict["OPTIONS"].get("pool"):
                super().close_if_health_check_failed()
        elif self._borrowed_by != os.getpid() and not self.in_atomic_block:
            self._close()  # it is the parent's

    # -- giving back ---------------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._lender is None:
            super()._close()  # type: ignore[misc]  # not in the stubs
            return
        connection, self.connection = self.connection, None
        self._lender = None
        self._is_set_up = self._constraints_off = self._ends_with_work = self._is_due = self._remembers = False
        self._cursors = WeakSet()
        if connection is not None:
            # Somebody may have given it back already, by its own close() or from another thread.
            with self.wrap_database_errors, suppress(ReturnConnectionToPoolError):
                cast(Connection, connection).close()

    def hold(self) -> None:
        """Keep the connection until `let_go()`, or until Django closes it; may be nested."""
        self._holds += 1

    def let_go(self) -> None:
        """The end of a `hold()`."""
        self._holds = max(0, self._holds - 1)
        self._release_if_free()

    def _work_ended(self) -> None:
        """The piece of work for which the connection was borrowed is over."""
        if self._remembers and work.request() is work.Request.ASGI:
            return  # the end of the request will be told in this thread
        self._is_due = True
        self._release_if_free()

    def _release_if_free(self) -> None:
        if (
            self._lender is not None
            and (self._lender.early or self._is_due)
            and not self._holds
            and not self._constraints_off
            and not self.in_atomic_block
            and self.autocommit
            and not self._cursors
            and not self.allow_thread_sharing
            and self.connection is not None
            and not self.connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        ):
            self._close()

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        self._release_if_free()  # an atomic block ends with this

    def disable_constraint_checking(self) -> Literal[True]:
        self._constraints_off = True
        return super().disable_constraint_checking()

    def enable_constraint_checking(self) -> None:
        super().enable_constraint_checking()
        self._constraints_off = False
        self._release_if_free()
