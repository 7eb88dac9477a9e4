"""What an async borrower holds: a lent connection and its cursors, awaited.

A statement runs in a worker thread, with all the rows that PyMySQL reads for it; what is in memory already is handed
out without one. One trip to a thread per call: `execute`, `executemany`, `callproc`, `begin`, `ping`, `run_sync`, and
`fetch...` of an unbuffered cursor or `nextset` when there is something to read. None for `cursor()`, for the `fetch...`
of an ordinary cursor, for `commit` and `rollback` after nothing that could be, and for `close()`, unless something must
be cleaned up.

A cancelled statement's connection is cut, which wakes its thread with an error, and that thread gives it back: as
long as a thread uses the connection nobody else can have it.

Never: says anything to the server on the event loop, repeats a statement, decides what is kept.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import _GeneratorContextManager, asynccontextmanager, suppress
from functools import partial
from inspect import GEN_CLOSED, getgeneratorstate
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pymysql import err
from pymysql.constants import CR

from .. import transaction as _transaction
from .._driver.exchange import can_go_on, is_between_commands
from .._driver.statements import TRANSACTION, WROTE
from .._pool.lease import Connection
from .._util import callsite as _borrower
from ..errors import ConnectionInterruptedError, ReturnConnectionToPoolError
from ..reuse import Reason
from .worker import Bell, Errand

if TYPE_CHECKING:
    from ..aio import AsyncConnectionPool


class AsyncConnection:
    """A lent connection, awaited. `close()` gives it back.

    As a context manager it commits at the end of a good block, rolls back at an exception, and gives itself back
    either way. Tasks that use it at the same time are served one after the other. When a task is cancelled while its
    statement runs, the connection is cut and can do nothing more; borrow another.
    """

    def __init__(self, pool: AsyncConnectionPool, lease: Connection, token: _borrower.Token | None = None) -> None:
        self._pool = pool
        self.lease = lease
        self.token = token  # of the task that borrowed, kept alive; None: whichever thread uses the lease
        self._turn = asyncio.Lock()
        self._errand: Errand | None = None  # what a thread is doing at this moment
        self._was_cut = False
        self._given_back: _borrower.Place | None = None  # where
        self._lost_changes = False
        # Open transactions. One whose task was cancelled stays here until the lease is dead: collected before that, it
        # would roll back, and that on the loop.
        self._blocks: list[_GeneratorContextManager[Connection]] = []
        self._depth = 0  # with-blocks of this connection that are open, transactions included
        self.has_owner = False  # a scope gives it back; its with-blocks commit or roll back, and leave it lent

    @property
    def pool_name(self) -> str:
        return self._pool.name

    @property
    def sent(self) -> int:
        """How many statements were sent over this connection since it was made, whoever borrowed it."""
        return self.lease.sent

    @property
    def closed(self) -> bool:
        """Whether it can do nothing more: given back, or cut."""
        return self._was_cut or self._given_back is not None or self.lease._returned is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'closed' if self.closed else 'lent'}>"

    # -- statements ----------------------------------------------------------------------------------------

    def cursor(self, cursor: type[Any] | None = None) -> AsyncCursor:
        """A cursor, of PyMySQL's class `cursor`; to be entered with `async with`, or used as it is."""
        self._refuse_closed()
        return AsyncCursor(self, self.lease.cursor(cursor))

    async def begin(self) -> None:
        await self.do(lambda: self.lease.begin())

    async def commit(self) -> None:
        await self._end_transaction(lambda: self.lease.commit())

    async def rollback(self) -> None:
        await self._end_transaction(lambda: self.lease.rollback())

    async def _end_transaction(self, call: Callable[[], Any]) -> None:
        """Where no statement has left anything behind there is nothing to end, and nothing is said."""
        async with self._turn:
            await self._prepare()
            self._refuse_closed()
            if self.lease.marks or not is_between_commands(self.lease):
                await self._in_turn(call)

    async def ping(self) -> None:
        """Ask the server; raises when it does not answer."""
        await self.do(lambda: self.lease.ping(reconnect=False))

    async def run_sync(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(connection, *args)` in a worker thread, with the sync `Connection`, for what is missing here."""
        return await self.do(lambda: function(self.lease, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        """All of the block or nothing; nested by savepoints. See `pymysqlpool.transaction`."""
        async with self._turn:
            await self._prepare()
            self._refuse_closed()
            block = _transaction.transaction(self.lease)
            self._blocks.append(block)
        self._depth += 1
        try:
            await self.do(block.__enter__)
            yield self
        except BaseException as error:
            if not self.closed:
                try:
                    await self.do(block.__exit__, type(error), error, error.__traceback__)
                except asyncio.CancelledError:
                    self._cut()  # nobody has rolled back, and nobody may commit
                    raise
            raise
        else:
            await self.do(block.__exit__, None, None, None)
        finally:
            self._depth -= 1
            if getgeneratorstate(block.gen) == GEN_CLOSED:
                self._blocks.remove(block)

    async def do(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """One exchange, in a worker thread, after those that came before."""
        async with self._turn:
            await self._prepare()
            self._refuse_closed()
            return await self._in_turn(partial(call, *args, **options))

    async def _prepare(self) -> None:
        """Called in turn, before each exchange: see `_web.socket_scope`."""

    async def _in_turn(self, call: Callable[[], Any]) -> Any:
        if self.token is not None:
            call = partial(_on_behalf_of, weakref.ref(token_of_task()), call)
        errand = self._errand = Errand(call, self._hand_in_cut)
        try:
            return await self._pool.run(errand)
        except BaseException:
            if errand.leave(self._cut):
                self._was_cut = True
            raise
        finally:
            self._errand = None

    def _cut(self) -> None:
        """A thread that waits for the server is woken with an error; what was not committed is rolled back."""
        with suppress(ReturnConnectionToPoolError):  # another thread gives it back in this very instant
            self._lost_changes = bool(self.lease.marks & WROTE)
            cut(self.lease)

    def _hand_in_cut(self) -> None:
        """In the thread of a statement that nobody waits for any more: it is the last one here."""
        if self._pool.kill_on_cancel and not is_between_commands(self.lease):
            self._pool.kill(self.lease.thread_id())  # type: ignore[no-untyped-call]
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
        if self._was_cut or self._given_back is not None:
            return None
        self._given_back = _borrower.place()
        if self._errand is not None and self._errand.leave(self._cut):
            return None
        return self._pool.hand_in(self.lease, give_back)

    def _give_back(self, exception: BaseException | None) -> None:
        with suppress(ReturnConnectionToPoolError):  # somebody was faster
            self._pool.pool.give_back(self.lease, exception)

    async def __aenter__(self) -> Self:
        self._refuse_closed()
        self._depth += 1
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth or (self.has_owner and not self.closed and self.lease.block is not None):
            return  # the outer block, or the request's transaction, ends the work
        try:
            if exception is None and self._lost_changes:
                raise ConnectionInterruptedError(f"changes were not committed: this connection {self._end()}")
            if not self.closed and self.lease.marks & TRANSACTION:
                if exception is None:
                    await self.do(lambda: self.lease.commit_at_the_end())
                elif self.has_owner and can_go_on(self.lease):
                    await self.rollback()
        except BaseException as error:
            exception = error
            raise
        finally:
            if self.has_owner and not self.closed and can_go_on(self.lease):
                await self.leave()
            else:
                await self.give_back(exception)

    async def leave(self) -> None:
        """Its outermost with-block has ended, and its owner gives it back: see `_web.socket_scope`."""

    def _end(self) -> str:
        if self._was_cut:
            return "was cut off: a statement on it was cancelled"
        return f"has returned to the pool({self._pool.name}) at {_borrower.describe_place(self._given_back)}"

    def note(self, query: str) -> None:
        """A cursor is about to send `query`: see `_web.socket_scope`."""

    def can_read_here(self) -> bool:
        """Whether all results have been read, so that a cursor hands out rows without waiting for any."""
        self._refuse_closed()
        return is_between_commands(self.lease)

    def _refuse_closed(self) -> None:
        if self._was_cut or self._given_back is not None:
            raise ReturnConnectionToPoolError(f"this connection {self._end()}")
        if self.lease._returned is not None:
            self.lease._refuse_closed()


def cut(lease: Connection) -> None:
    """Wake the thread that uses `lease` with an error. Nothing, once somebody has begun to give it back."""
    slot = lease._slot
    if slot is None or slot.holder != id(lease):
        return
    wire = slot.wire
    # In this order: whoever begins to give it back after the question finds it expired, and so does not keep what is
    # being cut. Should it have been lent anew in this very instant, that one is replaced when it comes home.
    slot.expire(Reason.INTERRUPTED)
    if "_live" in lease.__dict__ and slot.holder == id(lease):
        wire.cut()


_tokens: weakref.WeakKeyDictionary[asyncio.Task[Any], _borrower.Token] = weakref.WeakKeyDictionary()


def token_of_task() -> _borrower.Token:
    """The current task as a borrower. The loop's thread would not do: it borrows for many, and lives too long. Alive
    as long as the task, or an `AsyncConnection` that it borrowed."""
    task = asyncio.current_task()
    if task is None:
        return _borrower.Token("task 'none'")
    token = _tokens.get(task)
    if token is None:
        token = _tokens[task] = _borrower.Token(f"task {task.get_name()!r}")
    return token


def _on_behalf_of(task: weakref.ref[_borrower.Token], call: Callable[[], Any]) -> Any:
    """`call`, in a thread that stands for `task` in the pool's reports meanwhile."""
    thread, _borrower.local.reference = _borrower.local.reference, task
    try:
        return call()
    finally:
        _borrower.local.reference = thread


class AsyncCursor:
    """PyMySQL's cursor, awaited. Rows that are in memory already are handed out without a thread."""

    def __init__(self, connection: AsyncConnection, cursor: Any) -> None:
        self.connection = connection
        self._cursor = cursor

    async def execute(self, query: str, args: Any = None) -> int:
        self.connection.note(query)
        return await self._do(self._cursor.execute, query, args)  # type: ignore[no-any-return]

    async def executemany(self, query: str, args: Any) -> int | None:
        self.connection.note(query)
        return await self._do(self._cursor.executemany, query, args)  # type: ignore[no-any-return]

    async def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        self.connection.note("CALL")
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
        return await self.connection.do(self._run, call, *args)

    def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        """In a thread, on the lease that the connection has by now."""
        if self._cursor.connection is not None:
            self._cursor.connection = self.connection.lease
        return call(*args)

    async def _read(self, call: Callable[..., Any], *args: Any) -> Any:
        if self.connection.can_read_here():
            return call(*args)
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
