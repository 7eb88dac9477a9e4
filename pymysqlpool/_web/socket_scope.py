"""The connections of one ASGI websocket: each lease belongs to the task that borrowed it.

A websocket lasts for hours and is served by several tasks, and the framework decides which of them awaits the next
message. A lease therefore belongs to a task, not to the websocket: see `socket_share`.

Tasks and threads that are started inside a block use the block's lease, as long as it is open. Other threads use the
lease of the task that has started them: see `thread_call`. A thread that no task awaits is refused.

Never: lets two tasks share a lease outside a block (Invariant 23).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any, Self

from .._async.worker import wait_for_all
from .._pool.current import pool_of
from .._pool.lease import Connection, Lender
from ..aio import AsyncConnection, AsyncConnectionPool
from ..request_scope import NoRequestScopeError, Watch
from . import thread_call
from .async_scope import AsyncRequestScope
from .socket_share import Share, share_of_the_block
from .thread_call import Call

_socket: ContextVar[SocketScope | None] = ContextVar("pymysqlpool_socket", default=None)
_starter: ContextVar[Share | None] = ContextVar("pymysqlpool_starter", default=None)  # of the task that began this one
_call: ContextVar[tuple[Share, Call] | None] = ContextVar("pymysqlpool_thread_call", default=None)


class SocketScope(AsyncRequestScope):
    """A scope whose leases belong to its tasks. It is created in the websocket's own task, and closed when that task's
    call of the application ends."""

    def __init__(self, pool: AsyncConnectionPool, *, watch: Watch | None = None, label: str = "") -> None:
        super().__init__(pool, watch=watch, label=label)
        self.pool = pool
        self.watch = watch
        self.waits = 0  # calls of the server's `receive` that are under way
        self._task = None if self._loop is None else asyncio.current_task()
        self._own = Share(self, "")
        self._shares: dict[asyncio.Task[Any], Share] = {}
        _starter.set(self._own)
        _socket.set(self)  # the context ends with the websocket's task

    def _share(self) -> Share:
        """The share of the current task, or of the block in which the task was started."""
        share = share_of_the_block(self)
        if share is not None:
            return share
        return self._share_of(asyncio.current_task(), lambda task: task.add_done_callback(self._ended))

    def _share_of(self, task: asyncio.Task[Any] | None, note: Callable[[asyncio.Task[Any]], object]) -> Share:
        """The share of what `task` works for. `note` is called with a new one's task, whose end is to be noted."""
        task = self._works_for(task)
        share = self._known(task)
        if share is None:
            assert task is not None
            starter = _starter.get()
            starter = starter if starter is not None and starter.socket is self else self._own
            share = self._shares.setdefault(task, Share(self, f"task {task.get_name()!r}", starter))
            _starter.set(share)
            note(task)
        return share

    def _works_for(self, task: asyncio.Task[Any] | None) -> asyncio.Task[Any] | None:
        if sys.version_info >= (3, 12) or self._known(task) is not None:
            return task
        return None if task is None else thread_call.caller(task, self._tasks)

    def _known(self, task: asyncio.Task[Any] | None) -> Share | None:
        return self._own if task is None or task is self._task else self._shares.get(task)

    def end_of_tasks(self) -> None:
        for task in list(self._shares):
            if task.done():
                self._ended(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        share = self._shares.pop(task, None)
        if share is not None:
            share.end()

    def connection(self, pool: Lender | None = None) -> Connection:
        share = share_of_the_block(self)
        if share is None:
            share = self._own if get_ident() == self._thread else self._share_of_the_call()
        return share.connection(pool or pool_of(self, None))

    def _share_of_the_call(self) -> Share:
        """The share of the task that has started the call in this thread."""
        known = _call.get()
        if known is not None and known[0].socket is self and known[1].is_this():
            return known[0]
        assert self._loop is not None
        found = thread_call.find(self._loop, self._tasks, lambda context: context.get(_socket) is self)
        if found is None:
            if self._closed:
                self._refuse_closed()
            raise NoRequestScopeError(
                f"no task of {self.label} awaits this call in a thread, so it cannot be told whose connection to use: "
                "await the thread, or use `with pool.scope() as scope: scope.connection()` in it"
            )
        task, known_by = found
        loop = self._loop
        share = self._share_of(task, lambda its: loop.call_soon_threadsafe(its.add_done_callback, self._ended))
        _call.set((share, share.keep_for_call(known_by)))
        return share

    def _tasks(self) -> Iterator[asyncio.Task[Any]]:
        """All tasks of the loop; those of this websocket, as far as they are known, first."""
        if self._task is not None:
            yield self._task
        yield from list(self._shares)
        yield from asyncio.all_tasks(self._loop)

    async def async_connection(self, pool: AsyncConnectionPool | None = None) -> AsyncConnection:
        share = self._share()
        for other in (self._own, *self._shares.values()):
            if other is not share:
                other.make_way()
        return await share.async_connection(pool or self._awaited_default())

    async def lease_for_threads(self) -> Connection:
        lease = (await self.async_connection()).lease
        self._share().keep_for_threads()
        return lease

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Self]:
        """Keep the current task's lease for the block; tasks and threads started inside use the same lease."""
        share = self._share()
        with share.block():
            async with share.unit():
                yield self

    async def release(self) -> None:
        """Return the current task's leases now; its next use borrows again."""
        await self._share().release()

    async def receive(self, receive: Callable[[], Any]) -> Any:
        """Return the next message from the server's `receive`."""
        own = self._known(self._works_for(asyncio.current_task()))
        if own is not None:
            await own.end_of_message()
        self.waits += 1
        try:
            for share in (self._own, *self._shares.values()):
                if share is not own:
                    share.look()
            return await receive()
        finally:
            self.waits -= 1

    async def before_an_answer(self) -> None:
        await self._share().before_an_answer()

    async def async_close(self, exception: BaseException | None = None) -> None:
        self._closed = True
        await wait_for_all(self._own.end())
