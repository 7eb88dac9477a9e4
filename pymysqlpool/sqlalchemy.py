"""SQLAlchemy engines on this pool: it limits, queues, checks and resets the engine's connections.

    engine = create_engine("mysql+pymysql://me:secret@db/shop", poolclass=LeasePool, pool_size=5)   # a pool of its own
    engine = pymysqlpool.sqlalchemy.create_engine(pool)                                             # yours, shared

SQLAlchemy has one record per physical connection, for which the `connect` event and the dialect's SET NAMES run once.
Each checkout puts a new lease into the record of its connection. If the last borrower changed more than a transaction,
the session was reset; SQLAlchemy then sees a new connection: a new record, and the events again.

Owns: which record belongs to a lease, and the arguments from an engine's URL. Never: keeps a connection, waits.
Needs the extra `sqlalchemy`; for asyncio see `pymysqlpool.sqlalchemy_aio`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy
from pymysql.constants import CLIENT
from sqlalchemy import exc
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from sqlalchemy.pool.base import _ConnectionRecord

from ._util.lock import new_lock
from .errors import PoolTimeout
from .pool import ConnectionPool

__all__ = ["LeasePool", "create_engine"]

_RECORD = "sqlalchemy_record"


def create_engine(pool: ConnectionPool | Callable[[], ConnectionPool], **options: Any) -> Engine:
    """Return an engine that borrows from `pool`. Other code may use the pool too; `dispose()` renews its connections.

    Args:
        pool: the pool, or a function that returns it, called when the engine first connects.
        **options: those of `sqlalchemy.create_engine()`; options for size and lifetime have no effect.
    """
    return sqlalchemy.create_engine(url_of(pool), poolclass=LeasePool, connection_pool=pool, **options)


def url_of(pool: Any, driver: str = "mysql+pymysql") -> URL:
    """Return the URL that the engine shows to users and instrumentations."""
    host, _, port = pool.endpoint.rpartition(":") if isinstance(pool, ConnectionPool) else ("", "", "")
    return URL.create(driver, host=host or None, port=int(port) if port.isdecimal() else None)


class _Told:
    """The arguments with which an engine would connect, captured instead of connecting."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        self.arguments = arguments


class _Record(_ConnectionRecord):
    """SQLAlchemy's record of one physical connection, with its current lease."""

    lease: Any = None

    def adopt(self, connection: Any) -> None:
        """Take over the lease of this checkout."""
        self.lease = self.dbapi_connection = connection


class LeasePool(Pool):
    """`poolclass` for `sqlalchemy.create_engine()`.

    Args:
        creator: passed by SQLAlchemy.
        connection_pool: a pool to borrow from, or a function that returns it. None: the first connect makes a pool with
            the arguments of the engine's URL, `connect_args` and `do_connect` events, and with the options below.
        pool_size, max_overflow, recycle: as for `QueuePool` (`recycle` in seconds), except that `max_overflow=-1` is
            not supported; no effect with `connection_pool`.
        timeout, pre_ping: as for `QueuePool` (`timeout` in seconds).
        use_lifo: no effect: the last connection returned is always lent first.
        pool_options: further options of `ConnectionPool`.
        **options: those of every SQLAlchemy pool.

    Raises:
        sqlalchemy.exc.ArgumentError: the options contradict each other, or the engine has `creator=`.
        sqlalchemy.exc.TimeoutError: raised by `connect()`: no connection became free in time.
    """

    def __init__(
        self,
        creator: Any,
        connection_pool: ConnectionPool | Callable[[], ConnectionPool] | None = None,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = None,
        recycle: float = -1,
        pre_ping: bool = False,
        use_lifo: bool = True,
        pool_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if pool_size < 1 or max_overflow < 0:
            raise exc.ArgumentError("this pool is bounded: pool_size must be at least 1, and max_overflow at least 0")
        if connection_pool is not None and pool_options:
            raise exc.ArgumentError("connection_pool= has its options already")
        super().__init__(self._lease_for, **options)
        self._ask = creator
        self._connection_pool = connection_pool
        self._shares = connection_pool is not None
        self._timeout = timeout
        self._pre_ping_ours = pre_ping
        self._patience = 3 if self._shares else 0  # beyond pool_size connections are made at once, as by QueuePool
        self._own_options: dict[str, Any] = {
            "size": pool_size,
            "maxsize": pool_size + max_overflow,
            "timeout": 30.0 if timeout is None else timeout,
            **({"con_lifetime": recycle} if recycle != -1 else {}),
            **(pool_options or {}),
        }
        self._making = new_lock()
        self._asked = threading.local()  # `record`, `told`: of the connect that this thread makes
        self._made: ConnectionPool | None = None

    # -- the pool behind it --------------------------------------------------------------------------------

    @property
    def connection_pool(self) -> ConnectionPool:
        """The pool that lends. The first call makes it, if the engine has a pool of its own."""
        made = self._made
        if made is None:
            with self._making:
                made = self._made
                if made is None:
                    made = self._made = self._make()
        return made

    def _make(self) -> ConnectionPool:
        shared = self._connection_pool
        if shared is not None:
            pool = shared if isinstance(shared, ConnectionPool) else shared()
            self._learn_names(pool)
            return pool
        dialect: Any = self._dialect
        dialect.connect = _Told  # the last call of the engine's creator, after the `do_connect` events
        arguments = self._arguments()
        if dialect._has_events:  # they may give other arguments each time, for example a token
            for name in ("host", "port", "user", "password"):
                if name in arguments:
                    arguments[name] = partial(self._argument, name)
        return ConnectionPool(on_connect=self._set_up, **{**arguments, **self._own_options})

    def _learn_names(self, pool: ConnectionPool) -> None:
        """Once: let a return show the pool that the dialect's SET NAMES changes nothing."""
        lease = pool.get_connection(timeout=self._timeout)
        try:
            lease.cursor().execute(f"SET NAMES {lease.charset}")
        finally:
            lease.close()

    def _argument(self, name: str) -> Any:
        """One for a connect in this thread, which asks for each once: the events are sent once for all of them."""
        told: dict[str, Any] | None = getattr(self._asked, "told", None)
        if told is None or name not in told:
            told = self._asked.told = self._arguments()
        return told.pop(name)

    def _arguments(self) -> dict[str, Any]:
        self._asked.record = record = _Record(self, connect=False)
        told = self._ask(record) if _takes_one(self._ask) else self._ask()
        if not isinstance(told, _Told):
            raise exc.ArgumentError(
                "creator=, or a do_connect event, makes connections itself, which LeasePool cannot pool: give the "
                "engine a URL, or connection_pool="
            )
        return told.arguments

    # -- records -------------------------------------------------------------------------------------------

    def _set_up(self, connection: Any) -> None:
        """The `on_connect` hook of the engine's own pool, for a new or reset session."""
        record = self._asked.__dict__.pop("record", None) or _Record(self, connect=False)
        self._tell_of(record, connection)
        setattr(connection, _RECORD, record)

    def _tell_of(self, record: _Record, connection: Any) -> None:
        """Send the events of a new connection, as SQLAlchemy's record does."""
        record.adopt(connection)
        record.starttime = time.time()
        record.fresh = True
        dispatch: Any = self.dispatch
        if dispatch.first_connect:
            dispatch.first_connect.for_modify(dispatch).exec_once_unless_exception(connection, record)
        dispatch.connect.for_modify(dispatch)._exec_w_sync_on_first_run(connection, record)

    def _borrow(self) -> Any:
        try:
            lease: Any = self.connection_pool.get_connection(
                self._patience, pre_ping=self._pre_ping_ours, timeout=self._timeout
            )
        except PoolTimeout as error:
            raise exc.TimeoutError(str(error), code="3o7r") from error
        lease.note_place()
        return lease

    def _record_of(self, lease: Any) -> _Record:
        record: _Record | None
        if not self._shares:
            record = getattr(lease, _RECORD)
            assert record is not None
            record.adopt(lease)
            return record
        notes = lease.session_info
        record = notes.get((_RECORD, id(self._dialect)))
        if record is not None:
            record.adopt(lease)
            return record
        if not lease.client_flag & CLIENT.FOUND_ROWS:
            # The ORM needs the number of rows that an UPDATE matched, and the server reports those that it changed.
            self._dialect.supports_sane_rowcount = self._dialect.supports_sane_multi_rowcount = False  # type: ignore[union-attr]
        record = _Record(self, connect=False)
        self._tell_of(record, lease)
        if lease.is_as_new:  # a reset removes nothing that the events have set
            notes[_RECORD, id(self._dialect)] = record
        return record

    def _do_get(self) -> ConnectionPoolEntry:
        while True:
            lease = self._borrow()
            try:
                record = self._record_of(lease)
            except BaseException as error:
                lease.invalidate(error)
                lease.close()
                raise
            if not record._is_hard_or_soft_invalidated():
                return record
            record.close()
            if self._shares:
                lease.session_info.pop((_RECORD, id(self._dialect)), None)

    def _lease_for(self, connection_record: Any = None) -> Any:
        """Return a lease for a record that connects by itself, after a `checkout` event refused its connection.

        SQLAlchemy passes the record because its name and default are these; without one the lease is the caller's.
        """
        record, lease = connection_record, self._borrow()
        if record is None:
            return lease
        record.lease = lease
        if self._shares:
            lease.session_info[_RECORD, id(self._dialect)] = record
        return lease

    def _do_return_conn(self, record: Any) -> None:
        lease = record.lease
        record.lease = None
        if lease is None or lease.is_returned:
            return
        if record.dbapi_connection is None:  # `detach()` took it out
            lease.detach()
            return
        if not self._shares:
            lease.forget_insert_id()  # SQLAlchemy reads it from the reply to the INSERT, never by a statement
        lease.close()

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        if connection.is_returned or connection.pool is None:
            if connection.pool is None:
                super()._close_connection(connection, terminate=terminate)
            return
        if connection.open:
            connection.invalidate()  # a closed connection keeps the pool's own, more exact verdict
        connection.close()

    def _invalidate(self, connection: Any, exception: BaseException | None = None, _checkin: bool = True) -> None:
        """Discard one lost connection. The pool checks by itself which others are lost too."""
        if _checkin and getattr(connection, "is_valid", False):
            connection.invalidate(exception)

    # -- the rest of SQLAlchemy's interface ----------------------------------------------------------------

    def dispose(self) -> None:
        """Renew the connections: idle ones now, lent ones when they are returned."""
        if self._made is not None:
            self._made.drain()

    def recreate(self) -> LeasePool:
        """Return another SQLAlchemy pool over the same connections."""
        return self

    def status(self) -> str:
        """Return a description of the pool behind it."""
        return repr(self.connection_pool)

    def size(self) -> int:
        """As `QueuePool.size`, and likewise the three that follow: numbers of the pool behind it, of all its users."""
        return self.connection_pool.stats().size

    def checkedin(self) -> int:
        """The number of idle connections."""
        return self.connection_pool.stats().idle

    def checkedout(self) -> int:
        """The number of connections that are lent."""
        return self.connection_pool.stats().in_use

    def overflow(self) -> int:
        """The number of connections beyond `pool_size`; negative while there are fewer."""
        stats = self.connection_pool.stats()
        return stats.total - stats.size


def _takes_one(creator: Any) -> bool:
    code = getattr(creator, "__code__", None)
    return code is not None and code.co_argcount == 1
