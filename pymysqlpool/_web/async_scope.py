"""One lease per ASGI request, shared by its tasks and threads.

A sync endpoint, which the framework runs in a thread, and a coroutine of the same request use the same lease. For
websockets see `_web/socket_scope`.

Never: makes a round trip on the event loop, returns a lease twice, knows about ASGI messages.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from threading import get_ident
from time import monotonic
from typing import NoReturn, Self

from .. import transaction as _transaction
from .._async.turn import Turn
from .._async.worker import ThreadsafeEvent, wait_for_all
from .._driver.exchange import is_between_commands
from .._pool.cost import NO_WATCH, Place
from .._pool.current import CURRENT_SCOPE, INNER, inside, pool_of
from .._pool.lease import Connection, Lender
from .._pool.loss import loss
from .._util import callsite
from ..aio import AsyncConnection, AsyncConnectionPool, Borrowing
from ..errors import GetConnectionFromPoolError
from ..request_scope import NoRequestScopeError, RequestScope, TransactionMode, Use, Watch
from .limiter import add_threads, limiter_of_threads

_getframe = sys._getframe
_A_MOMENT = 0.005  # seconds


class AsyncRequestScope(RequestScope):
    """A `RequestScope` whose tasks and threads all use the same lease."""

    _awaited_pools: dict[Lender, AsyncConnectionPool] | None = None  # further ones
    _units = 0  # open blocks that keep the lease
    _commit: asyncio.Future[None] | None = None

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        transaction: TransactionMode = None,
        watch: Watch | None = None,
        label: str = "",
        deadline: float | None = None,
    ) -> None:
        super().__init__(pool.pool, transaction=transaction, watch=watch, label=label, deadline=deadline)
        self.pool = self._awaited = pool
        self._loop = loop = asyncio._get_running_loop()
        self._thread = get_ident()  # the event loop's
        self._limiter = limiter_of_threads(loop) if loop is not None else None
        self._turn = Turn()  # a task borrows

    def connection(self, pool: Lender | None = None) -> Connection:
        """The sync connection, for code that runs in a thread; see `RequestScope.connection`."""
        if get_ident() == self._thread:
            raise RuntimeError(
                "a sync connection would block the event loop: use `await current_async_connection()` here, or make "
                "the endpoint a sync function, which the framework runs in a thread"
            )
        return super().connection(pool)

    def _borrow(self, pool: Lender, place: Place) -> None:
        """Borrow in a thread. While the thread waits, it does not count against anyio's limit of threads for sync
        endpoints. Otherwise requests that hold a connection might never get a thread to use it in, or to continue in,
        as FastAPI does to validate a response."""
        self._allow_threads(1)
        try:
            super()._borrow(pool, place)
        finally:
            self._allow_threads(-1)

    def _allow_threads(self, more: int) -> None:
        if self._loop is not None and self._limiter is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(add_threads, self._limiter, more)

    async def async_connection(self, pool: AsyncConnectionPool | None = None) -> AsyncConnection:
        """Return this request's connection from `pool`: borrowed at the first call, the same one afterwards.

        Raises:
            NoRequestScopeError: the request has ended.
            GetConnectionFromPoolError: see `ConnectionPool.get_connection`.
        """
        if pool is None:
            pool = self._awaited if INNER.get() is None else self._awaited_default()
        elif pool is not self._awaited:
            self._know(pool)
        turn = self._turn
        if turn.is_taken:
            await turn.wait()
        else:
            turn.is_taken = True
        try:
            lender: Lender = pool.pool
            with self._lock:
                if self._closed:
                    self._refuse_closed()
                place = self._places.get(lender)
                if place is None:
                    place = self._places[lender] = Place()
            lock = place.lock
            while not lock.acquire(False):
                await asyncio.sleep(_A_MOMENT)  # a thread of this request is borrowing it
            try:
                lent = None if place.connection is None else self._lent(lender, place)
                if lent is not None and lent.lease.is_lost:
                    await self._part_with_a_lost(lender, place, lent)
                if lent is not None and not lent.closed:
                    return lent
                started = monotonic()
                patience = None if self.deadline is None else self._patience(lender, started)
                if type(pool) is AsyncConnectionPool:
                    # As `pool.get_connection`; the program's nearest frame may be the one that calls this.
                    frame = _getframe(1)
                    at, offset = frame.f_code, frame.f_lasti
                    if callsite.passed_over(id(at)) is not False:  # else as `callsite.of`, without the call
                        at, offset = callsite.of(frame)
                    connection = await Borrowing(pool, 3, 0.1, False, patience, at, offset)
                else:  # perhaps a target of a cluster
                    connection = await pool.get_connection(**self.committed.options(lender, patience, self.uses))
                self.refused = None
                if self._closed or self.transaction is not None:  # type: ignore[redundant-expr]  # it may have ended
                    await self._begin(connection)
                now, lease = monotonic(), connection.lease
                place.use = use = Use(lender.name, "", now - started, now, lease)
                place.connection = lease
                place.seen = connection = self._see(place, connection)
                self.uses.append(use)
                return connection
            except GetConnectionFromPoolError as error:
                self.refused = error
                self._note_what_is_held(lender, error)
                raise
            finally:
                lock.release()
        finally:
            if turn.is_waited_for:
                turn.leave()
            else:
                turn.is_taken = False

    async def _part_with_a_lost(self, pool: Lender, place: Place, lent: AsyncConnection) -> None:
        """See `RequestScope._part_with_a_lost_one`."""
        in_block, refusal = lent.in_block, lent.lease.refusal
        error = loss(lent.lease, pool, self.label or "this scope", in_block=in_block)
        if not in_block:
            await wait_for_all([lent.give_back_nowait(partial(self._give_back, pool, place, None), (_END, 0))])
        if error is not None:
            raise error from refusal

    def _know(self, pool: AsyncConnectionPool) -> None:
        """Remember how tasks borrow from a further pool."""
        if self._awaited_pools is None:
            self._awaited_pools = {}
        self._awaited_pools[pool.pool] = pool

    def _awaited_by(self, pool: Lender) -> AsyncConnectionPool:
        """How tasks borrow from `pool`."""
        others = self._awaited_pools
        return self._awaited if others is None else others.get(pool, self._awaited)

    def _awaited_default(self) -> AsyncConnectionPool:
        inner = pool_of(self, None)
        return self._awaited if inner is None else self._awaited_by(inner)

    def inside(self, pool: AsyncConnectionPool) -> AbstractContextManager[object]:
        """Make `pool` the default one in the block: that of a middleware inside of this scope's."""
        if pool.pool is not self._awaited.pool and (
            self._awaited_pools is None or pool.pool not in self._awaited_pools
        ):
            self._know(pool)
        return inside(self, pool.pool)

    async def lease_for_threads(self) -> Connection:
        """Return the lease of `async_connection()`, which threads use from now on."""
        return (await self.async_connection()).lease

    def _refuse_closed(self) -> NoReturn:
        raise NoRequestScopeError("the request has ended and its connections have gone back")

    def _lent(self, pool: Lender, place: Place) -> AsyncConnection | None:
        """Return the lease in `place` as an `AsyncConnection`, whether a task or a thread borrowed it."""
        lease = place.connection
        if lease is None or lease.is_returned:
            return None
        known: AsyncConnection | None = place.seen
        if known is None or known.lease is not lease:
            known = place.seen = self._see(place, AsyncConnection(self._awaited_by(pool), lease))
        return known

    def _see(self, place: Place, lent: AsyncConnection) -> AsyncConnection:
        """Return the `AsyncConnection` that shows the lease in `lent` to the request's tasks."""
        lent.has_owner = lent.lease.has_owner = True
        return lent

    async def _begin(self, connection: AsyncConnection) -> None:
        """Begin what a borrow begins, or return the connection: the scope has ended while the task waited."""
        try:
            if self._closed:
                self._refuse_closed()
            if self.transaction == "request" and not self._finished:
                await connection.carry_out(_transaction.begin_steps)
                if self._closed:
                    self._refuse_closed()
        except BaseException as error:
            await connection.give_back(error)
            raise

    def _note_what_is_held(self, wanted: Lender, error: BaseException) -> None:
        held = [pool.name for pool, place in self._places.items() if pool is not wanted and place.connection]
        if held:
            error.add_note(f"This request holds a connection of pool({'), pool('.join(held)}) already.")

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Self]:
        """Keep the lease for the block, even while another task awaits the websocket's next message (Invariant 23)."""
        self._units += 1
        try:
            yield self
        finally:
            self._units -= 1
            await self.release()

    async def release(self) -> None:
        """Return the request's connections now, except those in use at this moment; the next use borrows again."""
        if not self._units:
            await wait_for_all(self._give_all_back_nowait(None, also_busy=False))

    async def async_join_transaction(self) -> None:
        """See `RequestScope.join_transaction`."""
        for lease in self._to_join():
            lent = next(lent for lent in self._all_lent() if lent.lease is lease)
            await lent.carry_out(_transaction.begin_steps)

    async def async_finish(self, *, commit: bool) -> None:
        """See `RequestScope.finish`. It is a task of its own, which completes the commit if this one is cancelled."""
        if self.transaction is None or not self._places:
            self.finish(commit=commit)
            return
        self._commit = asyncio.ensure_future(self._finish_awaited(commit))
        await asyncio.shield(self._commit)

    async def _finish_awaited(self, commit: bool) -> None:
        for lease in self._to_finish(commit):
            lent = next(lent for lent in self._all_lent() if lent.lease is lease)
            if commit:
                await lent.carry_out(_transaction.commit_steps)
            else:
                try:
                    await lent.carry_out(_transaction.rollback_steps)
                except Exception as error:  # noqa: BLE001 - the pool will roll back or discard it
                    self._note_no_rollback(lease, error)

    def _all_lent(self) -> Iterator[AsyncConnection]:
        for pool, place in list(self._places.items()):
            lent = self._lent(pool, place)
            if lent is not None:
                yield lent

    async def async_close(self, exception: BaseException | None = None) -> None:
        """See `RequestScope.close`. All returns are under way before the first await."""
        await wait_for_all(self._close_nowait(exception))

    def _close_nowait(self, exception: BaseException | None = None) -> list[ThreadsafeEvent | None]:
        """`async_close` without its wait: returns what to wait for."""
        with self._lock:
            if self._closed:
                return []
            self._closed = True
        self.refused = None  # its traceback would keep the borrower's local variables alive
        if not self._places:
            return []
        if self._commit is not None and not self._commit.done():  # its request was cancelled
            self._commit.add_done_callback(lambda _: self._give_all_back_nowait(None, also_busy=True))
            return []
        return self._give_all_back_nowait(exception, also_busy=True)

    def _give_all_back_nowait(self, exception: BaseException | None, also_busy: bool) -> list[ThreadsafeEvent | None]:
        returns = []
        for pool, place in list(self._places.items()):
            if place.connection is None:
                continue
            lent = self._lent(pool, place)
            if lent is None or not (also_busy or is_between_commands(lent.lease)):
                continue
            if exception is None and place.use is not None:
                place.use.end()
                if lent.returns_unchanged(_END, 0):
                    if self._watch is not NO_WATCH:
                        self._watch.report(place.use, self.label or "a request")
                    continue
            returns.append(lent.give_back_nowait(partial(self._give_back, pool, place, exception), (_END, 0)))
        return returns


_END = AsyncRequestScope.async_close.__code__  # the call site of a return at the end of a request


async def current_async_connection(pool: AsyncConnectionPool | None = None) -> AsyncConnection:
    """Return the connection of the request or websocket that this code runs in.

    Raises:
        NoRequestScopeError: the code runs outside any request or websocket.
    """
    scope = CURRENT_SCOPE.get()
    if not isinstance(scope, AsyncRequestScope):
        raise NoRequestScopeError(
            "there is no ASGI request here: a task of its own borrows with `async with pool.get_connection()`"
        )
    return await scope.async_connection(pool)


async def sync_connection() -> Connection:
    """Return the request's sync `Connection`; a FastAPI dependency for sync endpoints: `Depends(sync_connection)`.

    The borrow waits on the event loop. A sync dependency, or the endpoint itself, would wait in a thread.
    """
    scope = CURRENT_SCOPE.get()
    if isinstance(scope, AsyncRequestScope):
        return await scope.lease_for_threads()
    return (await current_async_connection()).lease  # raises the error that explains why there is none
