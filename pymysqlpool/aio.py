"""`AsyncConnectionPool`, the pool for asyncio: `async with pool.get_connection() as connection`.

It is a second interface to a `ConnectionPool`: async and sync borrowers wait in one queue, in order of arrival
(Invariant 2). Waiting blocks no thread, and statements run on the event loop (`_async/session`). The loop never blocks
on a socket, connects, or calls a user's hook: worker threads of this pool do that, at most one per connection. If a
loop cannot watch sockets (Windows' Proactor loop), statements run in these threads too.

**Cancellation** of a task:

* during a statement: the connection is discarded and its capacity is free at once. If a worker thread is using it
  (`run_sync`), the connection is cut: the thread wakes with an error and returns it;
* during a connect or a ping: the thread completes it, and the connection goes to the next borrower;
* while it waits: the task leaves the queue. A connection offered at that moment goes to the next waiter (Invariant 3).

None of these steps awaits, so a scope that cancels repeatedly (as anyio's do) cannot interrupt them.

Never: has a queue or a list of connections of its own, repeats a statement (Invariant 18), decides whether a connection
is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack, cast

from pymysql.constants import ER

from ._async.borrowing import Borrowing
from ._async.cleaner import Cleaner
from ._async.connection import AsyncConnection
from ._async.cursor import AsyncCursor
from ._async.cutting import cut
from ._async.lending import lend
from ._async.pool_names import PoolNames
from ._async.rounds import Rounds
from ._async.waiter import AsyncWaiter
from ._async.worker import (
    ThreadCall,
    ThreadsafeEvent,
    WorkerThreads,
    in_a_thread_of_its_own,
    runs_asyncio,
)
from ._driver.steps import watch_of
from ._driver.stop import stop_statement
from ._pool.checkout import checkout, withdraw
from ._pool.checkout_request import CheckoutRequest, Work
from ._pool.diagnostics import capacity
from ._pool.extra_session import extra_session
from ._pool.for_loops import (
    A_CUT,
    A_THREAD,
    NOTHING,
    clean_by,
    maintenance_due,
    return_takes,
    run_maintenance,
)
from ._pool.lease import Connection
from ._util import callsite
from ._util.callsite import passed_over
from ._util.log import logger
from .errors import ReturnConnectionToPoolError
from .failures import number_of
from .pool import ConnectionPool
from .secrets import conceal
from .stats import PoolStats

if TYPE_CHECKING:
    from .options import AllOptions

_getframe = sys._getframe

__all__ = ["AsyncConnection", "AsyncConnectionPool", "AsyncCursor", "Borrowing"]


class _ForTasks(Protocol):
    """A target of a cluster, which knows its class for asyncio."""

    def async_class(self) -> type[Any]: ...


class AsyncConnectionPool(PoolNames):
    """A `ConnectionPool` for asyncio.

    Args:
        *args, **options: those of `ConnectionPool`; `pre_create_num` connects in the constructor and blocks.
        pool: an existing pool, or a target of a `Cluster`, to share with sync callers, in place of the other arguments.
        kill_on_cancel: when a statement is cancelled, stop it on the server too: KILL QUERY, sent over a side
            connection beyond `maxsize`. If False, the server notices only at the end of the statement.

    Attributes:
        pool: the `ConnectionPool` behind it, which sync callers may use.
    """

    pool: ConnectionPool
    _connection_class: type[AsyncConnection] = AsyncConnection

    def __new__(cls, *args: Any, pool: Any = None, **options: Any) -> Self:
        if cls is AsyncConnectionPool and hasattr(pool, "async_class"):
            made: Self = object.__new__(pool.async_class())  # a target of a cluster
            return made
        return object.__new__(cls)

    def __init__(
        self,
        *args: Any,
        pool: ConnectionPool | _ForTasks | None = None,
        kill_on_cancel: bool = False,
        **options: Unpack[AllOptions],
    ) -> None:
        if pool is not None and (args or options):
            raise TypeError("pool= shares an existing pool, which has its options already")
        given = conceal(options)
        del options  # in the clear, for tools that report the variables of frames
        self.pool = cast(ConnectionPool, pool) if pool is not None else ConnectionPool(*args, **given)
        self.kill_on_cancel = kill_on_cancel
        self._rounds: Rounds | None = None  # of the event loop that borrowed last
        # Each call belongs to one slot, so none waits for another to end. One more thread is for a return that goes
        # on to maintain the idle connections.
        self._workers = WorkerThreads(lambda: capacity(self.pool) + 1, f"pymysqlpool {self.pool.name}")

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.pool.name

    def stats(self) -> PoolStats:
        """The pool's numbers at this moment."""
        return self.pool.stats()

    async def drain(self) -> None:
        """Renew all connections without refusing any borrow: idle ones now, lent ones when they are returned."""
        await in_a_thread_of_its_own(self.pool.drain, f"pymysqlpool {self.name} drain")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.pool!r}>"

    # -- borrowing -----------------------------------------------------------------------------------------

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
    ) -> Borrowing:
        """Borrow a connection: `async with pool.get_connection() as connection`, or `await` it and `close()` it.

        Arguments and errors are those of `ConnectionPool.get_connection`.

        Raises:
            RuntimeError: no asyncio event loop runs here, as under trio.
        """
        frame = _getframe(1)
        place: Any = frame.f_code
        if passed_over(id(place)) is False:  # as `callsite.of`, without the call
            offset = frame.f_lasti
        else:
            place, offset = callsite.of(frame)
        return Borrowing(self, retry_num, retry_interval, pre_ping, timeout, place, offset)

    _lend = lend

    async def _borrow(
        self,
        waiter: AsyncWaiter,
        has_queued: float,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        place: Any,
        offset: int,
    ) -> None:
        """The slow path of `get_connection`: check the waiter's lease, if it has a connection, or wait or connect.

        Args:
            has_queued: how many seconds the waiter was in the queue already.
        """
        pool, lease = self.pool, waiter.lease
        try:
            request = CheckoutRequest(
                pool, retry_num, retry_interval, pre_ping, timeout, waiter.borrower, place, offset
            )
        except BaseException:
            self._withdraw(lease, waiter)
            raise
        request.began_before(has_queued)
        borrow = checkout(pool, lease, waiter, request)
        answer: Any = None
        try:
            while (step := borrow.send(answer)) is not None:
                if not isinstance(step, Work):
                    answer = await waiter.wait(step)
                elif step.awaited:
                    answer = await self._for(waiter, step)
                else:
                    self._workers.submit(step.call)
        except BaseException:
            borrow.close()
            if not waiter.left:
                self._withdraw(lease, waiter)
            raise

    async def _for(self, waiter: AsyncWaiter, step: Work) -> Any:
        """Run a step of a borrow in a thread; if the task is cancelled meanwhile, the thread passes the lease on."""
        call = ThreadCall(step.call, partial(withdraw, self.pool, waiter.lease, waiter))
        try:
            return await self._workers.run(call)
        except BaseException:
            waiter.left = call.abandon(step.interrupt or _do_nothing)
            raise

    def _withdraw(self, lease: Connection, waiter: AsyncWaiter) -> None:
        """End a borrow without a lease: leave the queue."""
        if lease.is_used:  # a hook used it, so it must be closed
            self._workers.submit(partial(withdraw, self.pool, lease, waiter))
        else:
            withdraw(self.pool, lease, waiter)

    # -- giving back ---------------------------------------------------------------------------------------

    def give_back_nowait(self, lease: Connection, give_back: Callable[[], object]) -> ThreadsafeEvent | None:
        """Start the return of `lease` by `give_back`: on the loop if it is kept unchanged, else in a thread.

        Returns an event that is set at the end of the return, or None if the return is complete or cannot be awaited.
        The caller need not wait: the return completes either way.
        """
        try:
            takes = return_takes(self.pool, lease)
            if takes is A_CUT:
                cut(lease)  # rows are under way, or another thread waits for them and is woken by this cut
            elif takes is not A_THREAD:
                if maintenance_due(self.pool):
                    self._workers.submit(partial(run_maintenance, self.pool))
                if takes is NOTHING:
                    give_back()
                    return None
                session = watch_of(lease)
                if session is not None and session.is_here():
                    cleaner = Cleaner(session, self.pool.settings.reset_timeout)
                    clean_by(cleaner, lease)
                    give_back()
                    return cleaner.ended
        except ReturnConnectionToPoolError:
            pass  # another thread returns it at this moment
        returned = ThreadsafeEvent() if runs_asyncio() else None

        def work() -> None:
            try:
                give_back()
            finally:
                if returned is not None:
                    returned.set()

        self._workers.submit(work)
        return returned

    def give_back_interrupted(self, give_back: Callable[[], object]) -> None:
        """Discard by `give_back` a connection whose exchange was abandoned; in a thread if that needs I/O or a hook."""
        own = self.pool.settings
        if self.kill_on_cancel or own.on_discard is not None or own.on_checkin is not None:
            self._workers.submit(give_back)
        else:
            give_back()

    async def run(self, call: ThreadCall, users: bool = False) -> Any:
        """Run the call in one of the pool's worker threads and return its result; see `WorkerThreads.run`."""
        return await self._workers.run(call, users)

    def kill(self, lease: Connection) -> None:
        """Stop on the server the statement that the session of `lease` runs. Called in a thread."""
        deadline = monotonic() + self.pool.settings.reset_timeout
        said = {"event": "cancelled statement", "pool": self.name}
        try:
            wire = extra_session(self.pool, deadline)
            side = wire.borrow_privately()
            try:
                with side.within(deadline):
                    is_stopped = stop_statement(lease, side)
            finally:
                wire.take_back(side)
                wire.close(quiet=True)
            if not is_stopped:
                logger.debug(
                    "A cancelled statement of pool(%s) was not found where KILL QUERY would go", self.name, extra=said
                )
        except Exception as error:  # noqa: BLE001 - the statement then ends by itself
            if number_of(error) != ER.NO_SUCH_THREAD:
                logger.warning("A cancelled statement of pool(%s) goes on: %s", self.name, error, extra=said)

    # -- the pool's own life -------------------------------------------------------------------------------

    async def close(self, timeout: float = 10.0) -> None:
        """Close the pool, for sync callers too, and end the worker threads: see `ConnectionPool.close`."""

        def end() -> None:
            self.pool.close(timeout)
            self.end_threads()

        # Not a thread of the executor: the returns of lent connections may need all of those.
        await in_a_thread_of_its_own(end, f"pymysqlpool {self.name} close")

    def end_threads(self, wait: bool = True) -> None:
        """End the worker threads once they are idle; the next call starts new ones."""
        self._workers.end(wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def _do_nothing() -> None:
    """The `interrupt` of a step that cannot be interrupted."""
