"""Django's MySQL backend on PyMySQL, with a pool behind `OPTIONS["pool"]`.

Owns the methods by which Django connects, gets a cursor and closes. SQL, features, introspection and operations are
those of the installed Django. Every method of its backend that refers to the `MySQLdb` module is overridden, so that
this one works beside an installed mysqlclient.

Without `OPTIONS["pool"]`, and for the nameless connection that creates and drops test databases, it behaves as
Django's backend does.

A wrapper belongs to one thread. It gives its connection back when Django closes it: at the end of a request, of a task,
of a test. In a thread of an executor, where Django may never close it, it does so at the end of the work item for which
it borrowed (see `work`). With `"release": "transaction"` it does so as soon as no reason in `holds` is left. The rules
for failed statements are in `aftermath`.

Between the work items of an ASGI request a connection is also kept while its session has state that a statement set
(`SET`, user variables, GET_LOCK(), temporary tables). Elsewhere, and with `"release": "transaction"`, the return resets
that state; `hold()` keeps the connection for code that needs it. Django sends `connection_created` at each
checkout; the pool option `on_connect` is called once per session. Most connects are short (see `again`).

Never: repeats a statement, shares a connection between threads.
"""

from __future__ import annotations

import os
import weakref
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Literal, cast

import pymysql
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.utils import typecast_time
from django.utils.functional import cached_property
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from pymysqlpool import Connection, ConnectionPool, ReturnConnectionToPoolError
from pymysqlpool.cluster import ClusterPool
from pymysqlpool.secrets import reveal

from . import aftermath, again, aliases, hosts, options, pools, work, writes
from ._mysqldb import base as mysql
from .client import DatabaseClient
from .creation import DatabaseCreation
from .cursors import Cursor, CursorWrapper, HoldingCursor, LentCursor
from .features import DatabaseFeatures
from .frames import frame_of_cursor
from .holds import Ends, Lease, reasons
from .remembered import Remembered
from .schema import DatabaseSchemaEditor
from .validation import ANY_SERVER, DatabaseValidation, pool_errors

# PyMySQL reads TIME as a timedelta, Django wants a time.
_CONVERSIONS = {**conversions, FIELD_TYPE.TIME: typecast_time}


class DatabaseWrapper(mysql.DatabaseWrapper):
    Database = pymysql  # drives the translation of exceptions
    SchemaEditorClass = DatabaseSchemaEditor
    client_class: type[DatabaseClient] = DatabaseClient
    creation_class: type[DatabaseCreation] = DatabaseCreation
    features_class: type[DatabaseFeatures] = DatabaseFeatures
    validation_class: type[DatabaseValidation] = DatabaseValidation
    autocommit: bool
    isolation_level: str | None
    connection: Any  # PyMySQL's, or a lease

    _lease: Lease | None = None  # of `connection`; None when it was not borrowed
    _remembered: Remembered | None = None
    _just_read: Remembered | None = None  # `get_connection_params` has found it up to date, for the call that follows
    _latest: pools.PooledDatabase | None = None  # what the settings led to when they were last looked at
    _item: weakref.ref[Future[Any]] | None = None  # the work item that calls `work_ended()`
    undone_by: pymysql.Error | None = None  # the error with which the server rolled back the open atomic block
    hold_count: int = 0  # blocks of code in progress that keep the connection from being released early

    # -- the pool ------------------------------------------------------------------------------------------

    @property
    def pool(self) -> ConnectionPool | None:
        """The pool for the settings as they are now, or None. The first use makes it, which opens no connection."""
        database = self._find_database(self.get_connection_params())
        return database.pool if database is not None else None

    def close_pool(self) -> None:
        """Close this alias's idle connections in this process now, and those in use when they are given back.

        The next query makes a new pool. May be called again, and from any thread.
        """
        if self.alias != NO_DB_ALIAS:
            pools.close(self.alias)

    def _find_database(self, params: dict[str, Any]) -> pools.PooledDatabase | None:
        remembered, self._just_read = self._just_read or self._what_is_remembered(), None
        wanted = options.wanted(self) if remembered is None else remembered.pool
        if not wanted or self.alias == NO_DB_ALIAS:
            return None
        latest = self._latest
        if latest is not None and pools.is_current(latest) and latest.key.matches(params, self.isolation_level, wanted):
            return latest
        key = pools.PoolKey(params, self.isolation_level, wanted)
        database = pools.find(self.alias, key)
        if database is None:
            options.refuse_persistent(self.alias, self.settings_dict["CONN_MAX_AGE"])
            database = pools.make(self.alias, key, bool(self.settings_dict["CONN_HEALTH_CHECKS"]))
        self._latest = database
        return database

    def _what_is_remembered(self) -> Remembered | None:
        remembered = self._remembered
        return remembered if remembered is not None and remembered.is_of(self.settings_dict) else None

    # -- connecting ----------------------------------------------------------------------------------------

    def get_connection_params(self) -> dict[str, Any]:
        remembered = self._what_is_remembered()
        if remembered is None:
            remembered = self._remembered = Remembered(self, options.arguments(self, self._read_settings))
        self.isolation_level = remembered.isolation_level
        self._just_read = remembered
        return remembered.params()

    def _read_settings(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if params["conv"] is mysql.django_conversions:
            params["conv"] = _CONVERSIONS
        return params

    def connect(self) -> None:
        if again.connect(self):
            return
        self.undone_by = None
        self.hold_count += 1  # a receiver of connection_created may run queries, and must not give it away
        try:
            super().connect()
        except BaseException:
            if self._lease is not None:
                self._close()  # it could not be set up; another borrower may have it
            raise
        finally:
            self.hold_count -= 1
        lease = self._lease
        if lease is not None:
            lease.autocommit_is_set = lease.is_set_up = lease.remembers = False  # its set-up is repeated after a reset
            again.remember(self, lease.database)

    # Django checks for an event loop in the methods that call these two, `connect()` and `cursor()`.

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        database = self._find_database(conn_params)
        if database is None:
            return Connection(**reveal(hosts.placed(self, conn_params)))  # PyMySQL's, with mysqlclient's names
        # No wait before growing from `size` to `maxsize`: it would only delay requests.
        unit = None
        if database.cluster is None:
            connection = database.pool.get_connection(retry_num=0)
        else:
            unit, after = writes.current(), writes.to_be_seen(database.cluster)  # a replica must have it
            connection = cast(ClusterPool, database.pool).get_connection(after=after)
        connection.note_place(within=frame_of_cursor(6))  # Django's, and `connect()`
        item = None
        if database.release_after_transaction:
            ends = Ends.FREE
        else:
            item = work.item() if work.here.request is not work.Request.WSGI else None
            ends = Ends.CLOSE if item is None else Ends.WORK
        self._lease = Lease(database, ends, unit)
        if item is not None and (self._item is None or self._item() is not item):
            self._item = weakref.ref(item)
            work.at_the_end(item, self)
        return connection

    def init_connection_state(self) -> None:
        BaseDatabaseWrapper.init_connection_state(self)  # checks the server's version, once per process
        if self._lease is not None and self._lease.is_set_up:
            self._lease.is_set_up = False
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
        lease = self._lease
        try:
            database = lease.database if lease is not None else self._find_database(self.get_connection_params())
        except ImproperlyConfigured:
            if not pool_errors(self):
                raise
            return dict(ANY_SERVER)  # `check --database` looks at the models too, and then reports the settings
        if database is None:
            return super().mysql_server_data
        if database.server_data is None:
            database.server_data = super().mysql_server_data
        return database.server_data

    # -- using ---------------------------------------------------------------------------------------------

    def create_cursor(self, name: str | None = None) -> CursorWrapper:
        cursor = self.connection.cursor()
        lease = self._lease
        if lease is None:
            return CursorWrapper(cursor, self)
        if lease.cursors is None:
            return LentCursor(cursor, self, lease)
        holding = HoldingCursor(cursor, self, lease)
        lease.cursors.add(holding)
        return holding

    def make_cursor(self, cursor: Any) -> Cursor:
        return Cursor(cursor, self)

    def cursor_closed(self, lease: Lease, cursor: HoldingCursor) -> None:
        """Called by the cursors of this wrapper: one was closed."""
        if lease.cursors is not None:
            lease.cursors.discard(cursor)
        if lease is self._lease:
            self._release_if_free()

    def statement_failed(self, error: pymysql.Error) -> None:
        """Called by the cursors of this wrapper: the server or the driver refused a statement."""
        if aftermath.of_failure(self, self._lease, error):
            self._close()

    def set_rollback(self, rollback: bool) -> None:
        if not rollback:
            aftermath.refuse_to_go_on(self)
        super().set_rollback(rollback)

    def _rollback(self) -> None:
        with suppress(pymysql.NotSupportedError):
            BaseDatabaseWrapper._rollback(self)  # type: ignore[attr-defined]  # not in the stubs
        aftermath.block_ended(self)

    def is_usable(self) -> bool:
        if self.connection is None:
            return False
        try:
            self.connection.ping(reconnect=False)
        except Exception:  # noqa: BLE001 - whatever it is, the connection cannot be used
            return False
        return True

    def close_if_health_check_failed(self) -> None:
        """Called before each use. The pool checked the connection before lending it; only a fork can spoil it since."""
        lease = self._lease
        if lease is None:
            if self.connection is not None and not self.settings_dict["OPTIONS"].get("pool"):
                super().close_if_health_check_failed()
        elif lease.database.process != os.getpid() and not self.in_atomic_block:
            self._close()  # it belongs to the parent process

    # -- giving back ---------------------------------------------------------------------------------------

    def close(self) -> None:
        super().close()
        writes.forget(self.alias)

    def close_if_unusable_or_obsolete(self) -> None:
        if self.connection is None:
            writes.forget(self.alias)
        elif self._lease is not None and self.settings_dict["CONN_MAX_AGE"] == 0:
            self.close()  # its time is over, whatever else Django would ask
        else:
            super().close_if_unusable_or_obsolete()

    def _close(self) -> None:
        if self._lease is None:
            super()._close()  # type: ignore[misc]  # not in the stubs
            return
        connection, self.connection = self.connection, None
        lease, self._lease = self._lease, None
        if connection is not None:
            if lease.unit is not None and lease.database.cluster is not None:
                writes.note_commit(lease.unit, self.alias, lease.database.cluster, connection.commit_token)
            try:
                connection.close()
            except ReturnConnectionToPoolError:
                pass  # it has gone back already, by its own close() or from another thread
            except pymysql.Error:
                with self.wrap_database_errors:
                    raise

    def hold(self) -> None:
        """Keep the connection until `let_go()`, or until Django closes it; may be nested."""
        self.hold_count += 1

    def let_go(self) -> None:
        """The end of a `hold()`."""
        self.hold_count = max(0, self.hold_count - 1)
        self._release_if_free()

    def work_ended(self) -> None:
        """Called when the work item has ended for which the connection was borrowed."""
        lease = self._lease
        if lease is None or lease.ends is not Ends.WORK:
            return
        if lease.remembers and work.here.request is work.Request.ASGI:
            return  # Django closes it in this thread, at the end of the request
        lease.ends = Ends.FREE
        self._release_if_free()

    def _release_if_free(self) -> None:
        lease = self._lease
        if lease is not None and lease.ends is Ends.FREE and self.connection is not None and not reasons(self, lease):
            self._close()

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        lease = self._lease
        if lease is not None and lease.autocommit_is_set:  # Django's own request for it, while it connects
            lease.autocommit_is_set = False
            self.autocommit = autocommit
            return
        try:
            super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        except DatabaseError as error:  # it has no cursor that would report it, and begins and ends an atomic block
            if isinstance(error.__cause__, pymysql.Error):
                if aftermath.is_lost(self, error.__cause__):
                    self.autocommit = self.autocommit or autocommit  # a lost session has no transaction to wait for
                self.statement_failed(error.__cause__)
            raise
        self._release_if_free()  # an atomic block ends with this

    def disable_constraint_checking(self) -> Literal[True]:
        self.hold_count += 1  # the cursor that sends it closes, which must not give the connection back
        try:
            result = super().disable_constraint_checking()
            if self._lease is not None:
                self._lease.constraints_off = True
        finally:
            self.hold_count -= 1
        return result

    def enable_constraint_checking(self) -> None:
        super().enable_constraint_checking()
        if self._lease is not None:
            self._lease.constraints_off = False
        self._release_if_free()


again.know(DatabaseWrapper)
aliases.close_pools_of_forgotten_aliases(DatabaseWrapper)
