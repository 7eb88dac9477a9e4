"""The connection of one task of an ASGI websocket: it holds a lease only while work is under way on it.

Between uses it is `parked`: its lease is back in the pool, and the next statement borrows another. It knows what
parking it now would lose.

Never: decides to park itself; `socket_scope` does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

from .._async.worker import ThreadsafeEvent
from .._driver.exchange import is_between_commands
from .._driver.statements import AUTOCOMMIT, DATABASE, STATE, TRANSACTION, WROTE
from .._util import callsite
from ..aio import AsyncConnection, AsyncConnectionPool, AsyncCursor

_PLAIN = re.compile(r"\s*(?:select|show|describe|desc|explain|values|insert|update|delete|replace)\b", re.IGNORECASE)
_LOCKS = re.compile(r"\b(?:for\s+update|for\s+share|in\s+share\s+mode|into)\b", re.IGNORECASE)


class Share(Protocol):
    """What a `SocketConnection` needs from its task's share of the websocket."""

    pool: AsyncConnectionPool

    def used(self, connection: SocketConnection) -> None: ...
    def block(self) -> Any: ...
    def has_nothing_to_commit(self) -> None: ...
    def is_rolled_back(self) -> None: ...
    async def release(self) -> None: ...
    async def borrow_again(self, connection: SocketConnection) -> None: ...


class SocketConnection(AsyncConnection):
    """A task's connection, with a lease only while the task has work under way on it."""

    floats = True

    def __init__(self, share: Share, lent: AsyncConnection) -> None:
        super().__init__(share.pool, lent.lease, lent.token)
        self.floats = True
        self.has_owner = lent.lease.has_owner = True
        self._share = share
        self.parked = False  # its lease was returned, and the next statement borrows another
        self._keeps = False  # parking would lose a transaction that was begun, or locks
        self._cursor_class: Any = None
        self._blocks: list[Any] = []  # of `async with connection:`

    def adopt(self, lent: AsyncConnection) -> None:
        """Continue with another lease."""
        self.lease, self.parked, self._keeps = lent.lease, False, False
        self.lease.has_owner = True
        self.lease.task_depth = self._depth

    def park(self, give_back: Callable[[], object]) -> ThreadsafeEvent | None:
        """Return the lease; see `AsyncConnection.give_back_nowait`."""
        self._cursor_class = self.lease.cursorclass
        self.parked = True
        return self._pool.give_back_nowait(self.lease, give_back)

    @property
    def is_busy(self) -> bool:
        return self._turn.locked() or not is_between_commands(self.lease)

    @property
    def is_held(self) -> bool:
        """Whether a block keeps the lease."""
        return self._depth > 0

    @property
    def has_changes(self) -> bool:
        """Whether a return would lose changes, or a transaction that was begun to read under locks."""
        marks = self.lease.marks
        return bool(marks & WROTE or (marks & TRANSACTION and self._keeps))

    @property
    def has_state(self) -> bool:
        """Whether the session differs from its state at the borrow."""
        return bool(self.lease.marks & (STATE | DATABASE | AUTOCOMMIT))

    @property
    def closed(self) -> bool:
        return super().closed and not (self.parked and self.given_back is None)

    async def query_on(self, session: Any, sql: str | bytes, unbuffered: bool = False) -> int:
        try:
            return await super().query_on(session, sql, unbuffered)
        finally:
            self._done()

    async def all_on(self, session: Any, statements: Sequence[str]) -> list[Any]:
        try:
            return await super().all_on(session, statements)
        finally:
            self._done()

    async def fetch(self, session: Any, result: Any) -> bool:
        try:
            return await super().fetch(session, result)
        finally:
            self._done()

    async def _in_turn(self, call: Callable[[], Any], users: bool = False) -> Any:
        try:
            return await super()._in_turn(call, users)
        finally:
            self._done()

    async def _end_transaction(self, sql: str, call: Callable[[], Any]) -> None:
        if sql != "COMMIT":
            self._share.is_rolled_back()
        elif self.parked or not self.lease.marks & WROTE:
            self._share.has_nothing_to_commit()
        if not self.parked:
            await super()._end_transaction(sql, call)

    def _done(self) -> None:
        if not self.parked and not self.lease.marks & TRANSACTION:
            self._keeps = False
        self._share.used(self)

    async def begin(self) -> None:
        self._keeps = True
        await super().begin()

    async def run_sync(self, function: Callable[..., Any], *args: Any) -> Any:
        self._keeps = True
        return await super().run_sync(function, *args)

    async def __aenter__(self) -> Self:
        entered = await super().__aenter__()
        block = self._share.block()
        block.__enter__()
        self._blocks.append(block)
        return entered

    async def __aexit__(self, *exc_info: Any) -> None:
        self._blocks.pop().__exit__(*exc_info)
        await super().__aexit__(*exc_info)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        with self._share.block():
            async with super().transaction():
                yield self

    async def leave(self) -> None:
        await self._share.release()

    async def _prepare(self) -> None:
        if self.parked and self.given_back is None:
            await self._share.borrow_again(self)

    def cursor(self, cursor: type[Any] | None = None) -> AsyncCursor:
        if self.parked and self.given_back is None:
            return AsyncCursor(self, (cursor or self._cursor_class)(self.lease))
        return super().cursor(cursor)

    def note(self, query: str) -> None:
        self._keeps = self._keeps or _needs_its_transaction(query)

    def can_read_here(self) -> bool:
        return self.parked or super().can_read_here()

    def give_back_nowait(
        self, give_back: Callable[[], object], place: callsite.Place | None = None
    ) -> ThreadsafeEvent | None:
        if self.parked:
            self.parked = False
            return None
        return super().give_back_nowait(give_back, place)

    def _refuse_closed(self) -> None:
        if not self.parked or self.given_back is not None:
            super()._refuse_closed()


def _needs_its_transaction(query: Any) -> bool:
    """Whether the end of the transaction may lose something though no row was changed: locks, or an explicitly begun
    transaction. (Changed rows show in the reply.)"""
    text = query.decode("latin-1") if isinstance(query, bytes | bytearray) else str(query)
    return not _PLAIN.match(text) or _LOCKS.search(text) is not None
