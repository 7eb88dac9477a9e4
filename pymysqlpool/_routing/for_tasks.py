"""A target of a cluster for asyncio: the decisions of `topology`, executed by tasks.

Each endpoint has an `AsyncConnectionPool` over the pool that sync callers share. A connection belongs to the pool of
its endpoint and is returned there. Waiting blocks no thread; asking an endpoint for its role occupies one meanwhile.

Never: decides which endpoint serves.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from .._async.borrowing import Borrowing
from .._async.connection import AsyncConnection
from .._async.worker import ThreadCall, WorkerThreads, running_loop
from .._pool.checkout_request import Work
from ..aio import AsyncConnectionPool
from ..errors import PoolTimeout, PoolUnavailable
from .lending import Borrow
from .queue import Ticket


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
        self._workers = WorkerThreads(lambda: len(pool.cluster.lending.pools) + 1, f"pymysqlpool {pool.name}")
        self._kill_on_cancel = kill_on_cancel
        self._pools: dict[int, AsyncConnectionPool] = {}  # by the endpoint's index; hosts may be found at any time

    def _pool_of(self, index: int) -> AsyncConnectionPool:
        if index not in self._pools:
            pool = self._target.cluster.lending.pools[index]
            self._pools.setdefault(index, AsyncConnectionPool(pool=pool, kill_on_cancel=self._kill_on_cancel))
        return self._pools[index]

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
        after: str | None = None,
    ) -> Borrowing:
        """As `AsyncConnectionPool.get_connection`; `after` is that of `ClusterPool.get_connection`."""
        lender = self if after is None else _After(self, after)
        return Borrowing(lender, retry_num, retry_interval, pre_ping, timeout)

    def _lend_at_once(self, pre_ping: bool | float, borrower: Any) -> tuple[None, None]:
        return None, None

    async def _borrow(
        self,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        lease: Any = None,
        borrower: Any = None,
        after: str | None = None,
    ) -> AsyncConnection:
        ticket = AsyncTicket()
        steps = self._target.steps(ticket, retry_num, retry_interval, pre_ping, timeout, after)
        connection: AsyncConnection | None = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, Borrow):
                    endpoint = self._pool_of(step.endpoint)
                    try:
                        connection = await endpoint.get_connection(pre_ping=step.pre_ping, timeout=step.timeout)
                    except (PoolTimeout, PoolUnavailable) as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(connection.lease)
                elif isinstance(step, Work):
                    step = steps.send(await self.run(ThreadCall(step.call, _do_nothing)))
                else:
                    step = steps.send(await ticket.sleep(step))
        except StopIteration:
            assert connection is not None
            return connection
        finally:
            steps.close()

    def end_threads(self, wait: bool = True) -> None:
        super().end_threads(wait)
        for endpoint in list(self._pools.values()):
            endpoint.end_threads(wait)


class _After:
    """A target of a cluster for one borrow that is to see a commit; what `Borrowing` needs of a pool."""

    def __init__(self, pool: AsyncClusterPool, after: str) -> None:
        self._lend_at_once = pool._lend_at_once
        self._borrow = partial(pool._borrow, after=after)


def _do_nothing() -> None:
    """Clean-up for an answer that arrives after its borrower has given up: none is needed."""
