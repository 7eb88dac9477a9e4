"""The leases of one task of an ASGI websocket: when each goes back.

The task's work decides how long the task keeps a lease:

* **Uncommitted changes, an open result, a `transaction()`, `unit()` or `async with connection` block**: the lease stays
  with its task, whatever other tasks do, until the task commits, rolls back, leaves the block, or ends.
* **A call in a thread that has asked for it**: the lease stays until the call ends.
* **None of these, and the websocket awaits a message**: the lease is returned at once. An `AsyncConnection` that the
  task still refers to borrows again at its next statement. Session state (variables, temporary tables, locks) is lost
  if no statement has used it for `_UNUSED` seconds.
* **The task ends**: the lease is returned, also if the task outlives the websocket. Uncommitted changes are rolled
  back, and a warning is logged. If the task that has started it then commits, and has nothing to commit, that is an
  error: it takes the changes of `gather` or a `TaskGroup` for its own.

Tasks and threads that are started inside a block use the block's lease, as long as it is open.

Never: takes uncommitted work from its task (Invariant 23), knows which task code belongs to.
"""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Protocol

from .._async.worker import ThreadsafeEvent, wait_for_all
from .._driver.statements import TRANSACTION, WROTE
from .._pool.cost import Place
from .._pool.lease import Lender
from .._util.log import logger
from ..aio import AsyncConnection, AsyncConnectionPool
from ..errors import TransactionLostError
from ..request_scope import Watch
from .async_scope import AsyncRequestScope
from .task_connection import SocketConnection
from .thread_call import Call

_UNUSED = 1.0  # seconds that session state is kept for a task which does something else


class Socket(Protocol):
    """What a share needs to know of its websocket."""

    pool: AsyncConnectionPool
    watch: Watch | None
    label: str
    waits: int
    _loop: asyncio.AbstractEventLoop | None
    _thread: int
    _limiter: Any

    def end_of_tasks(self) -> None:
        """Return the leases of tasks that have ended, also if the loop has not called back yet."""


class Share(AsyncRequestScope):
    """The leases that one task of a websocket has borrowed.

    Args:
        starter: the share of the task that has started this one, as far as it is known.
    """

    def __init__(self, socket: Socket, name: str, starter: Share | None = None) -> None:
        super().__init__(socket.pool, watch=socket.watch, label=socket.label if not name else f"{socket.label}, {name}")
        self._loop, self._thread, self._limiter = socket._loop, socket._thread, socket._limiter
        self.socket = socket
        self._lent_out = False  # a thread has been given the lease, and may use it at any moment
        self._calls: set[Call] = set()  # in threads: those that have asked for the lease
        self._told = False
        self._starter = None if starter is None else weakref.ref(starter)  # weak: tasks may start one another for ever
        self._undone = ""  # the task, started by this one, whose changes were rolled back
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

    def keep_for_threads(self) -> None:
        """Note that a thread may use the lease at any time: keep it until the task awaits a message, or ends."""
        self._lent_out = True

    def keep_for_call(self, known_by: Context | Future[Any]) -> Call:
        """Note that a call in a thread uses the lease: keep it until the call ends."""

        def ended() -> None:
            self._calls.discard(call)
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self.look)

        call = Call(known_by, ended)
        self._calls.add(call)
        return call

    @property
    def _of_threads(self) -> bool:
        return self._lent_out or bool(self._calls)

    def _see(self, place: Place, lent: AsyncConnection) -> AsyncConnection:
        known = place.seen
        if isinstance(known, SocketConnection) and not known.closed:
            known.adopt(lent)
            return known
        return SocketConnection(self, lent)

    def block(self) -> Any:
        """A context manager: tasks and threads that are started inside use this share."""
        return Block(self)

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
                self._park(pool, place, lent)

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
        self._undone = ""
        if self._units:
            return
        returns = []
        for pool, place, lent in self._idle():
            if lent.has_changes:
                self._warn(lent)
            else:
                returns.append(self._park(pool, place, lent, also_of_threads=True))
        self._lent_out = False
        self._calls.clear()
        await wait_for_all(returns)

    async def before_an_answer(self) -> None:
        """Called before a message is sent while another task awaits the next one: return unneeded leases first."""
        if not self._units and not self._of_threads and self.socket.waits:
            returns = [
                self._park(pool, place, lent)
                for pool, place, lent in self._idle()
                if not lent.has_changes and not lent.has_state
            ]
            await wait_for_all(returns)

    async def release(self) -> None:
        if not self._units:
            returns = [self._park(*each, also_of_threads=True) for each in self._idle()]
            await wait_for_all(returns)

    def make_way(self) -> None:
        """Return unneeded leases, so that another task of the websocket that borrows does not wait for them."""
        if not self._units and not self._of_threads:
            for pool, place, lent in self._idle():
                if not lent.has_changes and not lent.has_state:
                    self._park(pool, place, lent)

    def _park(
        self, pool: Lender, place: Place, lent: SocketConnection, *, also_of_threads: bool = False
    ) -> ThreadsafeEvent | None:
        """Return a lease, unless a thread has asked for it meanwhile. With the lock of its place, a thread either finds
        the place empty, or has noted its call before."""
        if not place.lock.acquire(False):
            return None  # a thread gets it at this moment
        try:
            if place.connection is not lent.lease or (self._of_threads and not also_of_threads):
                return None
            left = Place()
            left.connection, left.use = place.connection, place.use
            place.connection = None
        finally:
            place.lock.release()
        return lent.park(partial(self._give_back, pool, left, None))

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

    def has_nothing_to_commit(self) -> None:
        """Called by a commit without changes.

        Raises:
            TransactionLostError: a task that this one has started had changes, and they were rolled back.
        """
        self.socket.end_of_tasks()
        undone, self._undone = self._undone, ""
        if undone:
            raise TransactionLostError(
                f"there is nothing to commit here: {undone} has ended with uncommitted changes, and they were rolled "
                "back. A task outside of a block has a connection of its own: commit in it, or start it inside "
                "`async with connection:`"
            )

    def is_rolled_back(self) -> None:
        self._undone = ""

    def end(self) -> list[ThreadsafeEvent | None]:
        """Return everything: the task has ended."""
        if self._later is not None:
            self._later.cancel()
        for _, _, lent in self._idle():
            if lent.lease.marks & WROTE:
                if self._starter is not None and (starter := self._starter()) is not None:
                    starter._undone = self.label
                logger.warning(
                    "%s ended with uncommitted changes in pool(%s); rolled back",
                    self.label,
                    lent.pool_name,
                    extra={"event": "rollback", "pool": lent.pool_name},
                )
        self._closed = True
        for place in self._places.values():
            if place.connection is None and isinstance(place.seen, SocketConnection):
                place.seen.parked = False  # nothing is to be borrowed for it any more
        return self._give_all_back_nowait(None, also_busy=True)


_block: ContextVar[Block | None] = ContextVar("pymysqlpool_socket_block", default=None)


class Block:
    """A context manager: tasks and threads that are started inside use the share of its task, as long as it is open."""

    __slots__ = ("_token", "is_open", "outer", "share")

    def __init__(self, share: Share) -> None:
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


def share_of_the_block(socket: Socket) -> Share | None:
    """The share of the innermost open block that this code was started in. A task may outlive the block."""
    block = _block.get()
    while block is not None:
        if block.is_open and block.share.socket is socket and not block.share.closed:
            return block.share
        block = block.outer
    return None
