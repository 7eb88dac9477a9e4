"""The connections of one ASGI websocket: each lease belongs to the task that borrowed it.

A websocket lasts for hours and is served by several tasks, and the framework decides which of them awaits the next
message. A lease therefore belongs to a task (`_Share`), not to the websocket, and the task's work decides how long the
task keeps it:

* **Uncommitted changes, an open result, a `transaction()`, `unit()` or `async with connection` block**: the lease stays
  with its task, whatever other tasks do, until the task commits, rolls back, leaves the block, or ends.
* **None of these, and the websocket awaits a message**: the lease is returned at once. An `AsyncConnection` that the
  task still refers to borrows again at its next statement. Session state (variables, temporary tables, locks) is lost
  if no statement has used it for `_UNUSED` seconds.
* **The task ends**: the lease is returned, also if the task outlives the websocket. Uncommitted changes are rolled
  back, and a warning is logged.

Tasks and threads that are started inside a block use the block's lease, as long as it is open. Other threads cannot
tell which task has started them: they use the lease that it or a task above it has asked for, or the one of the
websocket's own task, together with other threads.

Never: takes uncommitted work from its task, lets two tasks share a lease outside a block (Invariant 23).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Self

from .._async.worker import ThreadsafeEvent, wait_for_all
from .._driver.statements import TRANSACTION, WROTE
from .._pool.cost import Place
from .._pool.inner import pool_of
from .._pool.lease import Connection, Lender
from .._util.log import logger
from ..aio import AsyncConnection, AsyncConnectionPool
from ..request_scope import Watch
from .async_scope import AsyncRequestScope
from .task_connection import SocketConnection

_UNUSED = 1.0  # seconds that session state is kept for a task which does something else


class _Share(AsyncRequestScope):
    """The leases that one task of a websocket has borrowed."""

    def __init__(self, socket: SocketScope, name: str) -> None:
        super().__init__(socket.pool, watch=socket.watch, label=socket.label if not name else f"{socket.label}, {name}")
        self.socket = socket
        self._of_threads = False  # a thread has been given the lease, and may use it at any moment
        self._told = False
        self._later: asyncio.TimerHandle | None = None

    async def async_connection(self, pool: AsyncConnectionPool | None = None) -> AsyncConnection:
        connection = await super().async_connection(pool)
        assert isinstance(connection, SocketConnection)
        self.used(connection)
        return connection

    async def borrow_again(self, connection: SocketConnection) -> None:
        """Borrow for a statement on `connection`, whose lease was returned."""
        for pool, place in self._places.items():
            if place.seen is connection:
                await super().async_connection(self._awaited_by(pool))
                return

    def connection(self, pool: Lender | None = None) -> Connection:
        self.keep_for_threads()
        return super().connection(pool)

    def keep_for_threads(self) -> None:
        """Note that a thread may use the lease at any time: keep it until the task awaits a message, or ends."""
        self._of_threads = True

    def _see(self, place: Place, lent: AsyncConnection) -> AsyncConnection:
        known = place.seen
        if isinstance(known, SocketConnection) and not known.closed:
            known.adopt(lent)
            return known
        return SocketConnection(self, lent)

    def block(self) -> Any:
        """A context manager: tasks and threads that are started inside use this share."""
        return _Block(self)

    # -- when it goes back ---------------------------------------------------------------------------------

    def used(self, connection: SocketConnection) -> None:
        """Called after a statement: the lease may no longer be needed."""
        self._told = False
        if self.socket.waits and not self._of_threads and not connection.parked:
            assert self._loop is not None
            self._loop.call_soon(self.look)

    def look(self, unused: bool = False) -> None:
        """Start to return the leases that are not needed, without waiting.

        Args:
            unused: no statement has used them for `_UNUSED` seconds, so session state is no reason to keep them.
        """
        if self._units or self._of_threads or not self.socket.waits:
            return
        for pool, place, lent in self._idle():
            if lent.has_changes:
                self._warn(lent) if unused else self._look_later()
            elif lent.has_state and not unused:
                self._look_later()
            else:
                if unused and lent.lease.marks & TRANSACTION:
                    said = {"event": "rollback", "pool": lent.pool_name}
                    logger.warning("%s did not end its transaction, so it is rolled back", self.label, extra=said)
                lent.park(partial(self._give_back, pool, place, None))

    def _look_later(self) -> None:
        if self._later is None and self._loop is not None:
            self._later = self._loop.call_later(_UNUSED, self._look_again, [lent.sent for _, _, lent in self._idle()])

    def _look_again(self, before: list[int]) -> None:
        self._later = None
        if [lent.sent for _, _, lent in self._idle()] == before:
            self.look(unused=True)
        else:
            self.look()

    async def end_of_message(self) -> None:
        """Called when the task awaits the next message: until then it needs only leases with uncommitted work."""
        if self._units:
            return
        returns = []
        for pool, place, lent in self._idle():
            if lent.has_changes:
                self._warn(lent)
            else:
                returns.append(lent.park(partial(self._give_back, pool, place, None)))
        self._of_threads = False
        await wait_for_all(returns)

    async def before_an_answer(self) -> None:
        """Called before a message is sent while another task awaits the next one: return unneeded leases first."""
        if not self._units and not self._of_threads and self.socket.waits:
            returns = [
                lent.park(partial(self._give_back, pool, place, None))
                for pool, place, lent in self._idle()
                if not lent.has_changes and not lent.has_state
            ]
            await wait_for_all(returns)

    async def release(self) -> None:
        if not self._units:
            returns = [lent.park(partial(self._give_back, pool, place, None)) for pool, place, lent in self._idle()]
            await wait_for_all(returns)

    def make_way(self) -> None:
        """Return unneeded leases, so that another task of the websocket that borrows does not wait for them."""
        if not self._units and not self._of_threads:
            for pool, place, lent in self._idle():
                if not lent.has_changes and not lent.has_state:
                    lent.park(partial(self._give_back, pool, place, None))

    def _idle(self) -> list[tuple[Lender, Place, SocketConnection]]:
        """The leases that no call uses and no block keeps."""
        found = []
        for pool, place in self._places.items():
            lent = self._lent(pool, place)
            if isinstance(lent, SocketConnection) and not (lent.closed or lent.parked or lent.is_busy or lent.is_held):
                found.append((pool, place, lent))
        return found

    def _warn(self, lent: SocketConnection) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "%s waits for the next message with uncommitted changes, so it keeps its connection of pool(%s) and "
                "its locks: commit() or rollback() when a message is done",
                self.label,
                lent.pool_name,
                extra={"event": "uncommitted", "pool": lent.pool_name},
            )

    def end(self) -> list[ThreadsafeEvent | None]:
        """Return everything: the task has ended."""
        if self._later is not None:
            self._later.cancel()
        for _, _, lent in self._idle():
            if lent.lease.marks & WROTE:
                logger.warning(
                    "%s ended with uncommitted changes in pool(%s); rolled back",
                    self.label,
                    lent.pool_name,
                    extra={"event": "rollback", "pool": lent.pool_name},
                )
        self._closed = True
        return self._give_all_back_nowait(None, also_busy=True)


_block: ContextVar[_Block | None] = ContextVar("pymysqlpool_socket_block", default=None)
_nearest: ContextVar[_Share | None] = ContextVar("pymysqlpool_socket_share", default=None)


class _Block:
    """A context manager: tasks and threads that are started inside use the share of its task, as long as it is open."""

    __slots__ = ("_token", "is_open", "outer", "share")

    def __init__(self, share: _Share) -> None:
        self.share = share
        self.is_open = False

    def __enter__(self) -> None:
        self.outer = _block.get()
        self.is_open = True
        self._token = _block.set(self)

    def __exit__(self, *exc_info: object) -> None:
        self.is_open = False
        with suppress(ValueError):  # left in another context, by a generator that was collected
            _block.reset(self._token)


def _share_of_the_block(socket: SocketScope) -> _Share | None:
    """The share of the innermost open block that this code was started in. A task may outlive the block."""
    block = _block.get()
    while block is not None:
        if block.is_open and block.share.socket is socket and not block.share.closed:
            return block.share
        block = block.outer
    return None


class SocketScope(AsyncRequestScope):
    """A scope whose leases belong to its tasks. It is created in the websocket's own task, and closed when that task's
    call of the application ends."""

    def __init__(self, pool: AsyncConnectionPool, *, watch: Watch | None = None, label: str = "") -> None:
        super().__init__(pool, watch=watch, label=label)
        self.pool = pool
        self.watch = watch
        self.waits = 0  # calls of the server's `receive` that are under way
        self._task = asyncio._get_running_loop() and asyncio.current_task()
        self._own = _Share(self, "")
        self._shares: dict[asyncio.Task[Any], _Share] = {}

    def _share(self) -> _Share:
        """The share of the current task, or of the block in which the task was started."""
        share = _share_of_the_block(self)
        if share is not None:
            return share
        task = asyncio.current_task()
        if task is None or task is self._task:
            return self._own
        share = self._shares.get(task)
        if share is None:
            share = self._shares[task] = _Share(self, f"task {task.get_name()!r}")
            task.add_done_callback(self._ended)
        return share

    def _ended(self, task: asyncio.Task[Any]) -> None:
        share = self._shares.pop(task, None)
        if share is not None:
            share.end()

    def connection(self, pool: Lender | None = None) -> Connection:
        share = _share_of_the_block(self) or _nearest.get()
        if share is None or share.socket is not self or share.closed:
            share = self._own
        return share.connection(pool or pool_of(self, None))

    async def async_connection(self, pool: AsyncConnectionPool | None = None) -> AsyncConnection:
        share = self._share()
        if _nearest.get() is not share:
            _nearest.set(share)
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
        task = asyncio.current_task()
        own = self._own if task is self._task else self._shares.get(task) if task is not None else None
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
