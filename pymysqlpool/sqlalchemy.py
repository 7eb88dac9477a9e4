"""SQLAlchemy's engines on this pool: its bound, its queue, its judgement of connections.

    engine = create_engine("mysql+pymysql://me:secret@db/shop", poolclass=LeasePool, pool_size=5)   # a pool of its own
    engine = pymysqlpool.sqlalchemy.create_engine(pool)                                             # yours, shared

SQLAlchemy keeps a record for each physical connection: the `connect` event and the dialect's SET NAMES happen once for
it. Each checkout puts a new lease into the record of its connection. Where a session had to be reset, because its last
borrower changed more than a transaction, it is a new connection to SQLAlchemy: a new record, and the events again.

Owns: which record belongs to a lease, the arguments that an engine's URL gives. Never: keeps a connection, waits.
Extra `sqlalchemy`; for
asyncio see `pymysqlpool.sqlalchemy_aio`.
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
    """An engine that borrows from `pool`, which stays yours: others may use it, and `dispose()` renews its connections.

    Args:
        pool: the pool, or a function that returns it, called when the engine first connects.
        **options: those of `sqlalchemy.create_engine()`; those about size and lifetime are without effect.
    """
    return sqlalchemy.create_engine(url_of(pool), poolclass=LeasePool, connection_pool=pool, **options)


def url_of(pool: Any, driver: str = "mysql+pymysql") -> URL:
    """What the engine shows of itself, to people and to instrumentations."""
    host, _, port = pool.endpoint.rpartition(":") if isinstance(pool, ConnectionPool) else ("", "", "")
    return URL.create(driver, host=host or None, port=int(port) if port.isdecimal() else None)


class _Told:
    """What an engine would connect with, told instead of connecting."""

    def __init__(self, *args: Any, **arguments: Any) -> None:
        self.arguments = arguments


class _Record(_ConnectionRecord):
    """SQLAlchemy's record of one physical connection, with the lease that it is borrowed by now."""

    lease: Any = None

    def adopt(self, connection: Any) -> None:
        """The lease of this checkout."""
        self.lease = self.dbapi_connection = connection


class LeasePool(Pool):
    """`poolclass` for `sqlalchemy.create_engine()`.

    Args:
        creator: given by SQLAlchemy.
        connection_pool: a pool to borrow from, or a function that returns it. None: one is made at the first connect,
            with the arguments of the engine's URL, `connect_args` and `do_connect` events, and with those that follow.
        pool_size, max_overflow, recycle: as for `QueuePool`, but for `max_overflow=-1`, which has no counterpart;
            without effect with `connection_pool`.
        timeout, pre_ping: as for `QueuePool`.
        use_lifo: without effect: the last connection returned is the first one lent.
        pool_options: further options of `ConnectionPool`.
        **options: those of every SQLAlchemy pool.

    Raises:
        sqlalchemy.exc.ArgumentError: the options contradict each other, or `creator=` was given to the engine.
        sqlalchemy.exc.TimeoutError: from `connect()`: no connection became free in time.
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
        super().__init__(self._lease_for, **options)  # type: ignore[arg-type]  # whatever its parameter is called
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
        """The pool that lends; made by the first call, where the engine has one of its own."""
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
        dialect.connect = _Told  # what the engine's creator ends with, after the `do_connect` events
        arguments = self._arguments()
        if dialect._has_events:  # they may say something else each time, as a token
            for name in ("host", "port", "user", "password"):
                if name in arguments:
                    arguments[name] = partial(self._argument, name)
        return ConnectionPool(on_connect=self._set_up, **{**arguments, **self._own_options})

    def _learn_names(self, pool: ConnectionPool) -> None:
        """Once: have the pool find out that the dialect's SET NAMES changes nothing, which it does at a return."""
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
        """`on_connect` of the engine's own pool: a session that is new, or was reset."""
        record = self._asked.__dict__.pop("record", None) or _Record(self, connect=False)
        self._tell_of(record, connection)
        setattr(connection, _RECORD, record)

    def _tell_of(self, record: _Record, connection: Any) -> None:
        """The events of a new connection, as SQLAlchemy's record sends them."""
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
            # The ORM counts the rows that an UPDATE matched, and the server tells of those that it changed.
            self._dialect.supports_sane_rowcount = self._dialect.supports_sane_multi_rowcount = False  # type: ignore[union-attr]
        record = _Record(self, connect=False)
        self._tell_of(record, lease)
        if lease.is_as_new:  # a reset takes nothing away that the events have set
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

    def _lease_for(self, record: Any) -> Any:
        """SQLAlchemy's record connects by itself where a `checkout` event refused the connection that it had."""
        lease = self._borrow()
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
            connection.invalidate()  # else its own judgement says more: what was lost, and who else may be
        connection.close()

    def _invalidate(self, connection: Any, exception: BaseException | None = None, _checkin: bool = True) -> None:
        """One connection was lost. Which others are, too, the pool finds out itself."""
        if _checkin and getattr(connection, "is_valid", False):
            connection.invalidate(exception)

    # -- the rest of SQLAlchemy's interface ----------------------------------------------------------------

    def dispose(self) -> None:
        """Renew the connections: idle ones now, lent ones as they come home."""
        if self._made is not None:
            self._made.drain()

    def recreate(self) -> LeasePool:
        """Another pool for SQLAlchemy, with the same connections behind it."""
        return self

    def status(self) -> str:
        """A description of the pool behind it."""
        return repr(self.connection_pool)


def _takes_one(creator: Any) -> bool:
    code = getattr(creator, "__code__", None)
    return code is not None and code.co_argcount == 1
