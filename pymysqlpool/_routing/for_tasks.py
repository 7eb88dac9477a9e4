"""A target of a cluster for asyncio: the decisions of `topology`, executed by tasks.

Each endpoint has an `AsyncConnectionPool` over the pool that sync callers share. A connection belongs to the pool of
its endpoint and is returned there. Waiting blocks no thread; asking an endpoint for its role, or for a commit, occupies
one meanwhile. A thread that asks over a lease returns it, too, if the task is cancelled meanwhile.

Never: decides which endpoint serves.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from .._async.borrowing import Borrowing
from .._async.connection import AsyncConnection
from .._async.tokens import current_borrower
from .._async.worker import ThreadCall, ThreadsafeEvent, WorkerThreads, running_loop
from .._pool.checkout_request import Work
from .._pool.for_clusters import Line, lend_to_task
from .._pool.lease import Connection
from .._pool.observed import part_of
from .._util import callsite
from ..aio import AsyncConnectionPool
from ..errors import PoolTimeout, PoolUnavailable
from ..pool import ConnectionPool
from .lending import Borrow, HeldWork
from .queue import Ticket

_getframe = sys._getframe


class AsyncTicket(Ticket):
    """A task's place in the queue of a target."""

    __slots__ = ("_bell", "_loop")

    def __init__(self) -> None:
        super().__init__()
        self._loop = running_loop()
        self._bell = asyncio.Event()

    def call(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            self._loop.call_soon_threadsafe(self._bell.set)

    async def sleep(self, timeout: float) -> bool:
        """Wait until called, at most `timeout` seconds; return True if called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._bell.wait()
        called = self._bell.is_set()
        self._bell.clear()
        return called


class AsyncClusterPool(AsyncConnectionPool):
    """The class of `AsyncConnectionPool(pool=cluster.primary)`."""

    def __init__(self, *, pool: Any, kill_on_cancel: bool = False) -> None:
        super().__init__(pool=pool, kill_on_cancel=kill_on_cancel)
        self._target = pool
        self._line: Line = pool.cluster.lending.lines[pool.target]
        self._may_return = pool.settings.on_discard is None  # on the loop; the hook may block
        self._workers = WorkerThreads(lambda: len(pool.cluster.lending.pools) + 1, f"pymysqlpool {pool.name}")
        self._kill_on_cancel = kill_on_cancel
        self._pools: dict[ConnectionPool, AsyncConnectionPool] = {}  # of endpoints; hosts may be found at any time

    def _for_tasks(self, pool: ConnectionPool) -> AsyncConnectionPool:
        known = self._pools.get(pool)
        if known is None:
            made = AsyncConnectionPool(pool=pool, kill_on_cancel=self._kill_on_cancel)
            known = self._pools.setdefault(pool, made)
        return known

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
        after: str | None = None,
    ) -> Borrowing:
        """As `AsyncConnectionPool.get_connection`; `after` is that of `ClusterPool.get_connection`."""
        place, offset = callsite.of(_getframe(1))
        return Borrowing(self, retry_num, retry_interval, pre_ping, timeout, place, offset, after)

    def _lend(  # type: ignore[override]
        self,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        place: Any,
        offset: int,
        after: str | None,
    ) -> Generator[Any, None, AsyncConnection]:
        """As `ClusterPool.get_connection`."""
        express = self._line.express
        if express is not None and self._may_return and not pre_ping and after is None:
            loop = asyncio._get_running_loop() or running_loop()
            borrower = asyncio.current_task(loop) or current_borrower(loop)
            lent = lend_to_task(express, weakref.ref(borrower), place, offset)
            if lent is not None:
                pool, lease = lent
                return AsyncConnection(self._pools.get(pool) or self._for_tasks(pool), lease, borrower)
        steps = self._lend_by_decision(retry_num, retry_interval, pre_ping, timeout, after)
        return (yield from steps.__await__())

    async def _lend_by_decision(
        self,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        after: str | None,
    ) -> AsyncConnection:
        ticket, pools = AsyncTicket(), self._target.servers()
        steps = self._target.steps(ticket, retry_num, retry_interval, pre_ping, timeout, after)
        connection: AsyncConnection | None = None
        ends_in_a_thread = False
        try:
            step = next(steps)
            while True:
                if isinstance(step, Borrow):
                    endpoint = self._for_tasks(pools[step.endpoint])
                    try:
                        with part_of(step.call):
                            connection = await endpoint.get_connection(pre_ping=step.pre_ping, timeout=step.timeout)
                    except (PoolTimeout, PoolUnavailable) as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(connection.lease)
                elif isinstance(step, Work):
                    call = ThreadCall(step.call, steps.close)
                    try:
                        answer = await self.run(call)
                    except BaseException:
                        ends_in_a_thread = isinstance(step, HeldWork) and call.abandon()
                        raise
                    step = steps.send(answer)
                else:
                    step = steps.send(await ticket.sleep(step))
        except StopIteration:
            assert connection is not None
            return connection
        finally:
            if not ends_in_a_thread:
                steps.close()

    # A request's scope and a websocket know this pool alone, and a lease is returned to the pool of its endpoint.

    def give_back_nowait(self, lease: Connection, give_back: Callable[[], object]) -> ThreadsafeEvent | None:
        return self._for_tasks(lease.pool).give_back_nowait(lease, give_back)

    def kill(self, lease: Connection) -> None:
        self._for_tasks(lease.pool).kill(lease)

    def end_threads(self, wait: bool = True) -> None:
        super().end_threads(wait)
        for endpoint in list(self._pools.values()):
            endpoint.end_threads(wait)
