"""The connection of a websocket under WSGI: it holds a lease only while work is under way on it.

A websocket is one request that lasts for hours, in a thread that mostly waits for the next message. Its code therefore
holds a `SocketConnection` instead of a lease. A `SocketConnection` borrows for a statement and returns the lease after
it, unless the return would lose something:

* uncommitted changes, locks that a SELECT took, an explicitly begun transaction: kept until COMMIT or ROLLBACK;
* a result that is not read to its end, or an open cursor that has called a procedure: kept until read, or closed;
* a `with connection:` or transaction block: kept until its end;
* session state (variables, temporary tables, GET_LOCK), as far as the statement texts show it: kept until the websocket
  ends.

A cursor keeps its rows after the lease is returned, and borrows for its next statement. Without a kept lease, a
statement about the previous one (LAST_INSERT_ID(), SHOW WARNINGS) is refused, because it would read another session's
state; `cursor.lastrowid` has the insert id.

Never: returns a lease with uncommitted work (Invariant 23), returns a lease because of anything but its own use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakSet

from pymysql import err
from pymysql.constants import CR
from pymysql.cursors import Cursor

from .._driver.block import Block
from .._driver.exchange import can_go_on
from .._driver.statements import AUTOCOMMIT, DATABASE, STATE, TRANSACTION, WROTE
from .._pool.lease import Connection
from .._pool.loss import lost_with
from .._util.lock import new_lock
from ..pool import ConnectionPool
from ..request_scope import RequestScope

_PLAIN = re.compile(r"\s*(?:select|show|describe|desc|explain|values|insert|update|delete|replace)\b", re.IGNORECASE)
_CALLS = re.compile(r"\s*(?:call\b|set\s+@`?_)", re.IGNORECASE)  # `callproc` passes its arguments so
_LOCKS = re.compile(r"\b(?:for\s+update|for\s+share|in\s+share\s+mode)\b", re.IGNORECASE)
_CHANGES_STATE = re.compile(r"get_lock\s*\(|:=|\binto\s+@", re.IGNORECASE)  # in a statement that reads or writes rows
_ASKS_BACK = re.compile(
    r"\b(?:(?:last_insert_id|found_rows|row_count)\s*\(\s*\)|show\s+(?:warnings|errors)\b)", re.IGNORECASE
)


def is_websocket(environ: Any) -> bool:
    """Return whether a WSGI request opens a websocket."""
    return environ.get("HTTP_UPGRADE", "").lower() == "websocket" or "wsgi.websocket" in environ


class SocketConnection:
    """A `Connection` for the code of a websocket: the same methods, with a lease only while work is under way.

    Args:
        scope: the websocket's scope; it returns a remaining lease at the end.
        pool: the pool to borrow from.
    """

    def __init__(self, scope: RequestScope, pool: ConnectionPool) -> None:
        self._scope = scope
        self._pool = pool
        self._lock = new_lock()  # guards the count
        self._users = 0  # calls that are under way, in all threads
        self._depth = 0  # with-blocks that are open
        self._lease: Connection | None = None
        self._keeps = False  # the transaction has changed no row, but its end would lose locks or a snapshot
        self._has_state = False  # a return would lose session state
        self._loss = ""  # what was lost with a session, until an error has reported it
        self._is_fresh = True  # no statement was sent on the lease yet
        self._callers: WeakSet[Any] = WeakSet()  # open cursors that have called procedures, which may leave anything
        self._kept: Any = None  # the cursor of `execute` and the like
        self._last = (0, 0)  # insert id and affected rows of the last statement

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return Connection

    @property
    def open(self) -> bool:
        return not self._scope.closed

    @property
    def block(self) -> Block | None:
        return self._lease.block if self._lease is not None else None

    @block.setter
    def block(self, value: Block | None) -> None:
        assert self._lease is not None
        self._lease.block = value

    def insert_id(self) -> int:
        return self._last[0]

    def affected_rows(self) -> int:
        return self._last[1]

    @contextmanager
    def using(self) -> Iterator[Connection]:
        """A lease for the block; after the last concurrent block it is returned, unless that would lose something."""
        loss, self._loss = self._loss, ""
        if loss:
            raise err.OperationalError(
                CR.CR_SERVER_GONE_ERROR,
                f"the connection of pool({self._pool.name}) was lost, and with it {loss}; nothing uncommitted was "
                "kept. Run the work again from its beginning: the next use begins a new session",
            )
        with self._lock:
            self._users += 1
        try:
            lease = self._scope.connection(self._pool)
            if lease is not self._lease:
                self._lease, self._is_fresh, self._keeps, self._has_state = lease, True, False, False
            yield lease
        finally:
            with self._lock:
                self._users -= 1
                last = not self._users
            if last:
                self.give_back_if_idle()

    def give_back_if_idle(self) -> None:
        """Return the lease, unless a call is under way or the return would lose something."""
        with self._lock:
            if self._users or self._depth:
                return
        lease = self._lease
        if lease is not None and not lease.is_returned:
            if lease.in_transaction_block or not (lease.is_lost or self._is_over(lease)):
                return
            if lease.is_lost:
                self._loss = lost_with(lease)
            self._scope.give_back(self._pool)
        self._lease = None

    def _is_over(self, lease: Connection) -> bool:
        marks = lease.marks
        self._keeps = self._keeps and bool(marks & TRANSACTION)
        return can_go_on(lease) and not (marks & WROTE or self._keeps or self._has_state or self._callers)

    def before(self, query: Any, cursor: Any) -> None:
        """Called before a cursor sends `query`."""
        text = query.decode("latin-1") if isinstance(query, bytes | bytearray) else str(query)
        if self._is_fresh and _ASKS_BACK.search(text):
            raise err.InterfaceError(
                0,
                "in a websocket a statement by itself has a session of its own, so this one would be told of another "
                "session than that of the statement before it. Put both into `with g.db as connection:` or a "
                "transaction block, or use cursor.lastrowid",
            )
        if _CALLS.match(text):
            self._callers.add(cursor)
        elif not _PLAIN.match(text) or _LOCKS.search(text):
            self._keeps = True

    def after(self, query: Any, lease: Connection) -> None:
        """Called after the reply to the statement."""
        self._is_fresh = False
        self._last = lease.insert_id(), lease.affected_rows()  # type: ignore[no-untyped-call]
        text = query.decode("latin-1") if isinstance(query, bytes | bytearray) else str(query)
        if not _CALLS.match(text) and (_CHANGES_STATE.search(text) or not _PLAIN.match(text)):
            self._note_state(lease)

    def _note_state(self, lease: Connection) -> None:
        self._has_state = self._has_state or bool(lease.effect & (STATE | DATABASE | AUTOCOMMIT))

    def forget(self, cursor: Any) -> None:
        """Called when a cursor was closed."""
        self._callers.discard(cursor)
        self.give_back_if_idle()

    # -- what a connection has -----------------------------------------------------------------------------

    def cursor(self, cursor: Any = None) -> Any:
        with self.using() as lease:
            kind: Any = cursor or lease.cursorclass
            return _tracked(kind)(lease, self)

    def begin(self) -> None:
        self._calling("begin")()

    def commit(self) -> None:
        if self._lease is not None or self._loss:
            self._calling("commit")()

    def rollback(self) -> None:
        self._loss = ""  # which is what it asks for
        if self._lease is not None:
            self._calling("rollback")()

    def execute(self, query: str, args: Any = None) -> Any:
        return self._kept_cursor().execute(query, args)

    def executemany(self, query: str, args: Any) -> Any:
        return self._kept_cursor().executemany(query, args)

    def fetchone(self) -> Any:
        return self._kept_cursor().fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        return self._kept_cursor().fetchmany(size)

    def fetchall(self) -> Any:
        return self._kept_cursor().fetchall()

    def _kept_cursor(self) -> Any:
        if self._kept is None:
            self._kept = self.cursor()
        return self._kept

    def __getattr__(self, name: str) -> Any:
        """The other attributes of a `Connection`. A call that opens a transaction keeps the lease."""
        with self.using() as lease:
            value = getattr(lease, name)
        return self._calling(name) if callable(value) and not isinstance(value, type) else value

    def _calling(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self.using() as lease:
                self._keeps = self._keeps or not lease.marks & TRANSACTION
                result = getattr(lease, name)(*args, **options)
                self._is_fresh = False
                if name != "pipeline":  # of a transaction block
                    self._note_state(lease)
                return result

        return call

    def __enter__(self) -> SocketConnection:
        with self.using() as lease:
            lease.__enter__()
            self._depth += 1
        return self

    def __exit__(self, *exc_info: Any) -> None:
        lease = self._lease  # the lease of the block's start: a block never changes its lease
        assert lease is not None
        self._depth -= 1
        try:
            lease.__exit__(*exc_info)
        finally:
            self.give_back_if_idle()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'idle' if self._lease is None else 'lent'}>"


@cache
def _tracked(kind: type[Cursor]) -> type[Any]:
    """Return a subclass of the cursor class `kind` that takes a lease of the websocket's connection for every call."""

    class Tracked(kind):  # type: ignore[misc, valid-type]
        connection: Any

        def __init__(self, lease: Connection, of: SocketConnection) -> None:
            super().__init__(lease)
            self._of = of

        @contextmanager
        def _lent(self) -> Iterator[Connection]:
            if self.connection is None:
                raise err.ProgrammingError("Cursor closed")
            with self._of.using() as self.connection:
                yield self.connection

        def _query(self, query: Any) -> Any:
            with self._lent() as lease:
                self._of.before(query, self)
                count = super()._query(query)
                self._of.after(query, lease)
                return count

        def mogrify(self, query: Any, args: Any = None) -> Any:
            with self._lent():
                return super().mogrify(query, args)

        def execute(self, query: Any, args: Any = None) -> Any:
            with self._lent():
                return super().execute(query, args)

        def executemany(self, query: Any, args: Any) -> Any:
            with self._lent():
                return super().executemany(query, args)

        def callproc(self, procname: str, args: Any = ()) -> Any:
            with self._lent():
                return super().callproc(procname, args)

        def close(self) -> None:
            super().close()
            self._of.forget(self)

    Tracked.__name__ = Tracked.__qualname__ = kind.__name__
    return Tracked
