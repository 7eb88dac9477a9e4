"""The same pool, awaited: `async with pool.get_connection() as connection`.

One pool, two faces: async and sync borrowers stand in one queue, in order of arrival. Waiting happens on the event
loop and parks no thread. Statements run in worker threads of this pool's own, at most one per connection. On the loop
itself nothing makes a round trip: a clean connection is given back there, one that must be reset goes to a thread.

**Cancellation.** A cancelled task does not end the thread that works for it, so the two agree who is last (`Errand`):

* while a statement runs, the connection is cut, which wakes its thread with an error, and that thread gives it back:
  as long as it uses the connection nobody else can have it;
* while a connection is made or asked whether it lives, the thread finishes and passes it on to the next one;
* while the task only waits, it leaves the queue, and what it was given in that very instant is passed on (Invariant 3).

Nothing of this awaits anything, so a scope that cancels again and again (anyio's do) cannot disturb it.

Never: keeps a queue or a list of connections of its own, repeats a statement, decides what is kept.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from enum import Enum
from functools import partial
from threading import Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

from pymysql import err
from pymysql.constants import CR, ER

from . import _borrower, _maintenance, _report
from . import transaction as _transaction
from ._ledger import IN_USE, Slot
from ._log import logger
from ._statements import TRANSACTION, WROTE
from ._waiter import Waiter
from ._wire import is_between_commands
from .connection import Connection
from .errors import ConnectionInterruptedError, ReturnConnectionToPoolError
from .pool import _CONNECT_TIMEOUT, ConnectionPool, _Wish
from .reuse import error_number
from .stats import PoolStats

_EARLY = 0.1  # seconds before the pool's idle connections are due to be looked after


class Bell:
    """Any thread rings it, one task waits for it."""

    __slots__ = ("_loop", "_rung")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, timeout: float | None = None) -> None:
        """Until it rings, or for `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        self._rung.clear()


class AsyncWaiter(Waiter):
    """A task that sleeps on its event loop until woken."""

    __slots__ = ("_bell", "left")

    def __init__(self, lease: Connection) -> None:
        super().__init__(lease)
        self._bell = Bell()
        self.left = False  # its task is gone, and the thread that still works for it withdraws it

    async def wait(self, timeout: float) -> None:
        await self._bell.wait(max(0.0, timeout))

    def wake(self) -> None:
        self._bell.ring()


class _Stage(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REVOKED = "revoked"  # left before it began: it never will
    LEFT = "left"  # left while it ran


class Errand:
    """A call in a worker thread. Whoever is last, the thread or the task that waits for it, cleans up.

    QUEUED -> RUNNING -> DONE, or QUEUED -> REVOKED, or RUNNING -> LEFT -> DONE: then the thread calls `if_left`.
    """

    __slots__ = ("_call", "_if_left", "_lock", "_stage")

    def __init__(self, call: Callable[[], Any], if_left: Callable[[], object]) -> None:
        self._call = call
        self._if_left = if_left
        self._lock = Lock()
        self._stage = _Stage.QUEUED  # guarded by _lock

    def run(self) -> Any:
        with self._lock:
            if self._stage is not _Stage.QUEUED:
                raise ConnectionInterruptedError("the connection was given back before this statement was sent")
            self._stage = _Stage.RUNNING
        try:
            return self._call()
        finally:
            with self._lock:
                left = self._stage is _Stage.LEFT
                self._stage = _Stage.DONE
            if left:
                self._if_left()

    def leave(self, hurry: Callable[[], object] = lambda: None) -> bool:
        """Nobody wants the result any more. True when the thread is at it and will clean up; it is told to `hurry`."""
        with self._lock:
            if self._stage is _Stage.QUEUED:
                self._stage = _Stage.REVOKED
            elif self._stage is _Stage.RUNNING:
                self._stage = _Stage.LEFT
                hurry()  # before the thread can give the connection to somebody else
            return self._stage is _Stage.LEFT


class AsyncConnectionPool:
    """A `ConnectionPool` for asyncio.

    Args:
        *args, **options: those of `ConnectionPool`; `pre_create_num` connects in the constructor and blocks.
        pool: an existing pool to share with its sync users, instead of all these.
        kill_on_cancel: when a statement is cancelled, stop it on the server too: KILL QUERY, said over a side
            connection beyond `maxsize`. Without it the server notices at the end of the statement.
    """

    def __init__(
        self, *args: Any, pool: ConnectionPool | None = None, kill_on_cancel: bool = False, **options: Any
    ) -> None:
        if pool is not None and (args or options):
            raise TypeError("pool= shares an existing pool, which has its options already")
        _sync_to_async()
        self.pool = pool if pool is not None else ConnectionPool(*args, **options)
        self.kill_on_cancel = kill_on_cancel
        self._lock = Lock()  # guards the three below
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None
        self._carry_out: Callable[[Errand], Awaitable[Any]] | None = None

    @property
    def name(self) -> str:
        return self.pool.name

    def stats(self) -> PoolStats:
        return self.pool.stats()

    def drain(self) -> None:
        """Renew all connections without refusing anybody: idle ones now, lent ones as they come home."""
        self.pool.drain()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.pool!r}>"

    # -- borrowing -----------------------------------------------------------------------------------------

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        *,
        timeout: float | None = None,
    ) -> Borrowing:
        """Borrow a connection: `async with pool.get_connection() as connection`, or `await` it and `close()` it.

        Arguments and errors are those of `ConnectionPool.get_connection`.
        """
        return Borrowing(partial(self._borrow, retry_num, retry_interval, pre_ping, timeout))

    async def _borrow(
        self, retry_num: int, retry_interval: float, pre_ping: bool | float, timeout: float | None
    ) -> AsyncConnection:
        pool, own = self.pool, self.pool._settings
        if pool._pid != os.getpid():
            pool._enter_process()
        lease = Connection.__new__(Connection)
        lease._pool = pool
        lease._slot = None
        connect_timeout = pool._connect_args.get("connect_timeout", _CONNECT_TIMEOUT)
        wish = _Wish(retry_num, retry_interval, own.timeout if timeout is None else timeout, connect_timeout)
        waiter = AsyncWaiter(lease)
        task = asyncio.current_task()
        token = _borrower.Token(
            f"task {task.get_name()!r}" if task is not None else ""
        )  # the loop's thread would do, but it borrows for many and lives too long
        try:
            while True:
                slot = await self._obtain(lease, waiter, wish)
                if await self._is_fit(lease, slot, waiter, pre_ping or own.pre_ping, wish):
                    break
                waiter.may_grow = True  # it replaces a connection that was there
            slot.place = _borrower.place()
            slot.since = monotonic()
            slot.borrower = weakref.ref(token)
            lease.__dict__ = slot.wire.attributes()
            logger.debug("Get connection from pool(%s)", pool.name)
            if own.background and pool._caretaker is None:
                _maintenance.hire(pool)
            if own.on_checkout is not None:
                await self._for(waiter, partial(own.on_checkout, lease), slot.wire.cut)
        except BaseException:
            if not waiter.left:
                pool._withdraw(lease, waiter)
            raise
        return AsyncConnection(self, lease, token)

    async def _obtain(self, lease: Connection, waiter: AsyncWaiter, wish: _Wish) -> Slot:
        """Wait for, or make, a connection; returns its slot, owned by `lease`."""
        pool = self.pool
        waiting_since = 0.0
        try:
            while True:
                now = monotonic()
                with pool._lock:
                    slot, failure = pool._step_locked(lease, waiter, wish, now)
                if slot is not None and slot.state is IN_USE:
                    return slot
                if slot is not None:
                    await self._for(waiter, partial(pool._connect, lease, slot, waiter, wish))
                    continue
                if failure is not None:
                    cause = wish.last_error or pool._gate.error
                    raise _report.failure(pool, failure, monotonic() - wish.started, cause) from cause
                waiting_since = waiting_since or now
                _maintenance.reap(pool, look_for_dead_threads=True)
                await waiter.wait(pool._next_look(waiter, wish) - monotonic())
        finally:
            if waiting_since:
                with pool._lock:
                    pool._counters.waits += 1
                    pool._counters.wait_time += monotonic() - waiting_since

    async def _is_fit(
        self, lease: Connection, slot: Slot, waiter: AsyncWaiter, pre_ping: bool | float, wish: _Wish
    ) -> bool:
        pool = self.pool
        if not pool._wants_ping(pre_ping, monotonic() - slot.since):
            return pool._is_fit(lease, slot, False, wish)
        return bool(await self._for(waiter, partial(pool._is_fit, lease, slot, True, wish)))

    async def _for(
        self, waiter: AsyncWaiter, call: Callable[[], Any], hurry: Callable[[], object] = lambda: None
    ) -> Any:
        """Do a step of borrowing in a thread; if the borrower leaves meanwhile, the thread passes on what it has."""
        errand = Errand(call, partial(self.pool._withdraw, waiter.lease, waiter))
        try:
            return await self.run(errand)
        except BaseException:
            waiter.left = errand.leave(hurry)
            raise

    # -- threads -------------------------------------------------------------------------------------------

    async def run(self, errand: Errand) -> Any:
        with self._lock:
            self._start_locked()
            assert self._carry_out is not None
            carry_out = self._carry_out
        return await carry_out(errand)

    def _start_locked(self) -> ThreadPoolExecutor:
        """The executor of this process. Each errand has a slot to itself, so none waits for another's end; one thread
        more, for a return that goes on to look after the idle connections."""
        if self._executor is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._executor = ThreadPoolExecutor(self.pool._settings.maxsize + 1, f"pymysqlpool {self.pool.name}")
            self._carry_out = _sync_to_async()(Errand.run, thread_sensitive=False, executor=self._executor)
        return self._executor

    def hand_in(self, lease: Connection, give_back: Callable[[], object]) -> Bell | None:
        """Start the return of `lease` by `give_back`: here when that makes no round trip, else in a thread.

        Returns what to wait for, or None when it is done. Not waiting is safe; it comes home all the same.
        """
        slot, pool = lease._slot, lease._pool
        if slot is None or pool is None or slot.holder != id(lease):
            give_back()  # it was taken back already
        elif not is_between_commands(lease):
            slot.wire.cut()  # rows are under way, or another thread waits for them and is woken by this
            give_back()
        elif pool._keeps_plainly and slot.wire.is_as_lent(lease.__dict__) and not _is_time_to_tend(pool):
            give_back()
        else:
            bell = Bell()

            def work() -> None:
                try:
                    give_back()
                finally:
                    bell.ring()

            with self._lock:
                self._start_locked().submit(work)
            return bell
        return None

    def _kill(self, session: int) -> None:
        """Stop on the server what `session` is doing. In a thread."""
        deadline = monotonic() + self.pool._settings.reset_timeout
        try:
            wire = self.pool._connector.make_wire(deadline)
            side = wire.borrow_privately()
            try:
                with side.within(deadline):
                    side.query(f"KILL QUERY {session}")
            finally:
                wire.take_back(side)
                wire.close(quiet=True)
        except Exception as error:  # noqa: BLE001 - the statement then ends by itself
            if error_number(error) != ER.NO_SUCH_THREAD:
                logger.warning("A cancelled statement of pool(%s) goes on: %s", self.name, error)

    # -- the pool's own life -------------------------------------------------------------------------------

    async def close(self, timeout: float = 10.0) -> None:
        """End the pool, for its sync users too: see `ConnectionPool.close`. Ends the worker threads."""
        bell = Bell()

        def end() -> None:
            try:
                self.pool.close(timeout)
                self.end_threads()
            finally:
                bell.ring()

        # Not a thread of the executor: those who give back what is still lent may need them all.
        thread = Thread(target=end, name=f"pymysqlpool {self.name} close")
        thread.start()
        await bell.wait()
        thread.join()

    def end_threads(self, wait: bool = True) -> None:
        """End the worker threads, once they are done; the next statement would start new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class Borrowing:
    """What `get_connection` returns: to be awaited, or entered with `async with`."""

    __slots__ = ("_borrow", "_connection")

    def __init__(self, borrow: Callable[[], Any]) -> None:
        self._borrow = borrow

    def __await__(self) -> Generator[Any, None, AsyncConnection]:
        return self._borrow().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> AsyncConnection:
        self._connection: AsyncConnection = await self
        return self._connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(exc_type, exception, traceback)


class AsyncConnection:
    """A lent connection, awaited. `close()` gives it back.

    As a context manager it commits at the end of a good block, rolls back at an exception, and gives itself back
    either way. Tasks that use it at the same time are served one after the other. When a task is cancelled while its
    statement runs, the connection is cut and can do nothing more; borrow another.
    """

    def __init__(self, pool: AsyncConnectionPool, lease: Connection, token: _borrower.Token | None = None) -> None:
        self._pool = pool
        self.lease = lease
        self._token = token  # tells the pool, until the first statement, that the borrower lives
        self._turn = asyncio.Lock()
        self._errand: Errand | None = None  # what a thread is doing at this moment
        self._over = ""  # why it can do nothing more
        self._lost_changes = False

    @property
    def closed(self) -> bool:
        """Whether it can do nothing more: given back, or cut."""
        return bool(self._over) or self.lease._returned is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'closed' if self.closed else 'lent'}>"

    # -- statements ----------------------------------------------------------------------------------------

    def cursor(self, cursor: type[Any] | None = None) -> AsyncCursor:
        """A cursor, of PyMySQL's class `cursor`; to be entered with `async with`, or used as it is."""
        self._refuse_closed()
        return AsyncCursor(self, self.lease.cursor(cursor))

    async def begin(self) -> None:
        await self.do(self.lease.begin)

    async def commit(self) -> None:
        await self.do(self.lease.commit)

    async def rollback(self) -> None:
        await self.do(self.lease.rollback)

    async def ping(self) -> None:
        """Ask the server; raises when it does not answer."""
        await self.do(self.lease.ping, reconnect=False)

    async def run_sync(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(connection, *args)` in a worker thread, with the sync `Connection`, for what is missing here."""
        return await self.do(function, self.lease, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        """All of the block or nothing; nested by savepoints. See `pymysqlpool.transaction`."""
        block = _transaction.transaction(self.lease)
        try:
            await self.do(block.__enter__)
            yield self
        except BaseException as error:
            if not self.closed:
                try:
                    await self.do(block.__exit__, type(error), error, error.__traceback__)
                except asyncio.CancelledError:
                    self._cut()  # or `block` would roll back when it is collected, and that on the loop
                    raise
            raise
        await self.do(block.__exit__, None, None, None)

    async def do(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """One exchange, in a worker thread, after those that came before."""
        async with self._turn:
            self._refuse_closed()
            errand = self._errand = Errand(partial(call, *args, **options), self._hand_in_cut)
            try:
                return await self._pool.run(errand)
            except BaseException:
                if errand.leave(self._cut):
                    self._over = "was cut off: a statement on it was cancelled"
                raise
            finally:
                self._errand = None

    def _cut(self) -> None:
        """A thread that waits for the server is woken with an error; what was not committed is rolled back."""
        self._lost_changes = bool(self.lease._marks & WROTE)
        slot = self.lease._slot
        if slot is not None and slot.holder == id(self.lease):
            slot.wire.cut()

    def _hand_in_cut(self) -> None:
        """In the thread of a statement that nobody waits for any more: it is the last one here."""
        if self._pool.kill_on_cancel and not is_between_commands(self.lease):
            self._pool._kill(self.lease.thread_id())  # type: ignore[no-untyped-call]
        self._give_back(err.OperationalError(CR.CR_SERVER_LOST, "cut off, because its task was cancelled"))

    # -- giving back ---------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Give the connection back. A statement of another task that is under way is cut off.

        Raises:
            ReturnConnectionToPoolError: it has been given back already.
        """
        self._refuse_closed()
        await self.give_back(None)

    async def give_back(self, exception: BaseException | None) -> None:
        """Return it after `exception`; again is nothing. All is under way before this first waits."""
        bell = self.start_return(partial(self._give_back, exception))
        if bell is not None:
            await bell.wait()

    def start_return(self, give_back: Callable[[], object]) -> Bell | None:
        """See `AsyncConnectionPool.hand_in`; for the time being, or for good, a thread may have that in hand."""
        if self._over:
            return None
        self._over = f"has returned to the pool({self._pool.name}) at {_borrower.describe_place(_borrower.place())}"
        if self._errand is not None and self._errand.leave(self._cut):
            return None
        return self._pool.hand_in(self.lease, give_back)

    def _give_back(self, exception: BaseException | None) -> None:
        with suppress(ReturnConnectionToPoolError):  # somebody was faster
            self._pool.pool.give_back(self.lease, exception)

    async def __aenter__(self) -> Self:
        self._refuse_closed()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exception is None and self._lost_changes:
                raise ConnectionInterruptedError(f"changes were not committed: this connection {self._over}")
            if exception is None and not self.closed and self.lease._marks & TRANSACTION:
                await self.do(self.lease._commit_at_the_end)
        except BaseException as error:
            exception = error
            raise
        finally:
            await self.give_back(exception)

    def _refuse_closed(self) -> None:
        if self._over:
            raise ReturnConnectionToPoolError(f"this connection {self._over}")
        if self.lease._returned is not None:
            self.lease._refuse_closed()


class AsyncCursor:
    """PyMySQL's cursor, awaited. Rows that are in memory already are handed out without a thread."""

    def __init__(self, connection: AsyncConnection, cursor: Any) -> None:
        self.connection = connection
        self._cursor = cursor

    async def execute(self, query: str, args: Any = None) -> int:
        return await self._do(self._cursor.execute, query, args)  # type: ignore[no-any-return]

    async def executemany(self, query: str, args: Any) -> int | None:
        return await self._do(self._cursor.executemany, query, args)  # type: ignore[no-any-return]

    async def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        return await self._do(self._cursor.callproc, procname, args)

    async def nextset(self) -> bool | None:
        return await self._read(self._cursor.nextset)  # type: ignore[no-any-return]

    async def fetchone(self) -> Any:
        return await self._read(self._cursor.fetchone)

    async def fetchmany(self, size: int | None = None) -> Any:
        return await self._read(self._cursor.fetchmany, size)

    async def fetchall(self) -> Any:
        return await self._read(self._cursor.fetchall)

    async def close(self) -> None:
        """Close it; what is left of an unbuffered result is read to its end."""
        if not self.connection.closed:
            await self._read(self._cursor.close)

    async def _do(self, call: Callable[..., Any], *args: Any) -> Any:
        return await self.connection.do(call, *args)

    async def _read(self, call: Callable[..., Any], *args: Any) -> Any:
        self.connection._refuse_closed()
        if is_between_commands(self.connection.lease):
            return call(*args)  # all results have been read: there is nothing to wait for
        return await self._do(call, *args)

    def mogrify(self, query: str, args: Any = None) -> str:
        return self._cursor.mogrify(query, args)  # type: ignore[no-any-return]

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount  # type: ignore[no-any-return]

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid  # type: ignore[no-any-return]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        row = await self.fetchone()
        if row is None:
            raise StopAsyncIteration
        return row

    def __await__(self) -> Generator[Any, None, Self]:
        """As in aiomysql: `cursor = await connection.cursor()`."""
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exception is None or is_between_commands(self.connection.lease):
            await self.close()  # after an exception nobody waits for rows that nobody wants (Invariant 10)


def _is_time_to_tend(pool: ConnectionPool) -> bool:
    """Whether a return may go on to look after the idle connections, which takes round trips."""
    return pool._caretaker is None and monotonic() > pool._tend_at - _EARLY


def _sync_to_async() -> Any:
    try:
        from asgiref.sync import sync_to_async
    except ImportError as error:
        raise ImportError("AsyncConnectionPool needs asgiref. Did you install pymysqlpool-web[async]?") from error
    return sync_to_async
