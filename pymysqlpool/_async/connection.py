"""`AsyncConnection`: a borrowed connection whose methods are awaited.

Statements run on the event loop (`session`) where the loop and the connection allow it, and otherwise in a worker
thread, as do calls that only the sync connection offers (`run_sync`). Tasks that use it concurrently take turns.

A task that is cancelled in the middle of a statement leaves the protocol stream in an unknown state, so the connection
is returned at once and discarded (Invariant 6). If a worker thread is using it, the connection is cut: the thread wakes
with an error and returns it, so no other borrower gets a connection that a thread still uses. If the whole reply had
already arrived, the connection stays usable.

Never: repeats a statement (Invariant 18), decides whether a connection is kept.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from pymysql import err
from pymysql.constants import COMMAND

from .. import transaction as _transaction
from .._driver import observed as _observed
from .._driver import steps as _steps
from .._driver.exchange import can_go_on, is_between_commands
from .._driver.statements import TRANSACTION, WROTE
from .._pool.lease import Connection, slot_of
from .._util import callsite
from ..errors import ConnectionInterruptedError, ReturnConnectionToPoolError
from .cursor import AsyncCursor
from .cutting import cut, expire
from .elsewhere import names_elsewhere
from .exchanges import Exchanges
from .names import FieldsNames
from .returning import Home, Returning
from .session import Session
from .tokens import Borrower, current_borrower, on_behalf_of
from .turn import Turn
from .worker import ThreadCall

_getframe = sys._getframe


class AsyncConnection(Returning, Exchanges, FieldsNames):
    """A borrowed connection whose methods are awaited. `close()` returns it to the pool.

    As a context manager it commits at the end of the block, rolls back at an exception, and returns itself to the pool
    either way. Concurrent tasks are served one after the other. If a task is cancelled while its statement runs, the
    connection is no longer usable; borrow another.
    """

    lease: Connection
    floats: bool = False  # True: it may have no lease, and `_prepare` borrows one; see `_web.socket_scope`
    has_owner = False  # True: a scope returns it; its with-blocks commit or roll back, but do not return it
    _thread_call: ThreadCall | None = None  # what a thread is doing at this moment
    _was_cut = False
    given_back: callsite.Place | None = None  # call site of the return; None: not returned
    _lost_changes = False
    _depth = 0  # with-blocks of this connection that are open, transactions included
    _wrote_before = False  # of an owner's lease: the with-block began with uncommitted changes

    def __init__(self, pool: Home, lease: Connection, token: Borrower | None = None) -> None:
        self._pool = pool
        self.lease = lease
        self.token = token  # the borrowing task, kept alive; None: the thread that uses the lease borrows
        self._turn = Turn()
        # As the defaults of the class, which Python 3.11 finds several times slower: each statement asks for these.
        self.floats = False
        self._was_cut = False
        self.given_back = None
        self._thread_call = None

    @property
    def pool_name(self) -> str:
        return self._pool.name

    @property
    def sent(self) -> int:
        """The number of statements sent over this connection since it was opened, by all its borrowers."""
        return self.lease.sent

    @property
    def closed(self) -> bool:
        """Whether the connection is no longer usable: it was returned or cut."""
        return self._was_cut or self.given_back is not None or self.lease.is_returned

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'closed' if self.closed else 'lent'}>"

    # -- statements ----------------------------------------------------------------------------------------

    def cursor(self, cursor: type[Any] | None = None) -> AsyncCursor:
        """Return a cursor of PyMySQL's class `cursor`; enter it with `async with`, or use it directly."""
        lease = self.lease
        if self._was_cut or self.given_back is not None or slot_of(lease) is None:  # returned, or detached
            self._refuse_closed()
        return AsyncCursor(self, lease.cursor(cursor))

    async def begin(self) -> None:
        await self._command("BEGIN", lambda: self.lease.begin())

    async def commit(self) -> None:
        await self._end_transaction("COMMIT", lambda: self.lease.commit())

    async def rollback(self) -> None:
        await self._end_transaction("ROLLBACK", lambda: self.lease.rollback())

    async def _end_transaction(self, sql: str, call: Callable[[], Any]) -> None:
        """End the transaction. Sends nothing if no statement has changed anything since the last end."""
        async with self._turn:
            session = await self.enter()
            if self.lease.marks or not is_between_commands(self.lease):
                await (self._in_turn(call) if session is None else self.query_on(session, sql))

    async def ping(self, reconnect: bool = False) -> None:
        """Check that the server answers; raises if it does not.

        Args:
            reconnect: accepted for aiomysql's callers (the default differs). The connection never reconnects, because a
                new session is not the one that was borrowed: borrow another connection instead.
        """
        async with self._turn:
            session = await self.enter()
            if session is None:
                await self._in_turn(lambda: self.lease.ping(reconnect=False))
            else:
                await self._exchange_command(session, COMMAND.COM_PING)

    async def _command(self, sql: str, call: Callable[[], Any]) -> None:
        async with self._turn:
            session = await self.enter()
            await (self._in_turn(call) if session is None else self.query_on(session, sql))

    async def run_sync(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function(connection, *args)` in a worker thread, with the sync `Connection`."""
        async with self._turn:
            if self.floats:
                await self._prepare()
            self._refuse_closed()
            _steps.note_depth(self.lease, self._depth)
            return await self._in_turn(lambda: function(self.lease, *args), users=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Self]:
        """Run the block as one transaction; nested blocks are savepoints. See `pymysqlpool.transaction`."""
        opened = await self.carry_out(_transaction.enter)
        self._nest(1)
        try:
            yield self
        except BaseException as error:
            if not self.closed:
                try:
                    await self.carry_out(_transaction.undo, opened, error)
                except asyncio.CancelledError:
                    if not self._was_cut:
                        self._left()  # the transaction was not rolled back, and must not be committed
                    raise
            raise
        else:
            await self.carry_out(_transaction.leave, opened)
        finally:
            self._nest(-1)

    async def carry_out(self, steps_of: Callable[..., _transaction.Steps], *args: Any) -> Any:
        """Execute the statements that the steps of `pymysqlpool.transaction` yield."""
        async with self._turn:
            session = await self.enter()
            steps = steps_of(self.lease, *args)
            if session is None:
                return await self._in_turn(partial(_transaction.carry_out, self.lease, steps))
            try:
                statements = next(steps)
                while True:
                    try:
                        await self._query_all(session, statements)
                    except Exception as error:  # noqa: BLE001 - theirs to handle
                        statements = steps.throw(error)
                    else:
                        statements = next(steps)
            except StopIteration as end:
                return end.value

    async def _query_all(self, session: Session, statements: tuple[str, ...]) -> None:
        failure: err.MySQLError | None = None
        if len(statements) > 1 and self.lease.can_pipeline and _observed.observer is None:
            for reply in await self.all_on(session, statements):
                if failure is None and isinstance(reply, err.MySQLError):
                    failure = reply
            statements = ()
        for statement in statements:
            try:
                await self.query_on(session, statement)
            except err.MySQLError as error:
                failure = failure or error
        _transaction.raise_first(failure)

    def _left(self) -> None:
        """The task was cancelled in the middle of a reply: return the connection for discard."""
        self._was_cut = True
        self._lost_changes = bool(self.lease.marks & WROTE)
        expire(self.lease)
        self._pool.give_back_interrupted(self._give_back_interrupted)

    # -- in a thread ---------------------------------------------------------------------------------------

    async def do(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run `call` in a worker thread, after the exchanges that were requested earlier."""
        async with self._turn:
            if self.floats:
                await self._prepare()
            self._refuse_closed()
            return await self._in_turn(partial(call, *args, **options))

    async def _in_turn(self, call: Callable[[], Any], users: bool = False) -> Any:
        if self.token is not None:
            call = partial(on_behalf_of, weakref.ref(current_borrower()), call)
        thread_call = self._thread_call = ThreadCall(call, self._give_back_interrupted)
        try:
            return await self._pool.run(thread_call, users)
        except BaseException:
            if thread_call.abandon(self._cut):
                self._was_cut = True
            raise
        finally:
            self._thread_call = None

    def _cut(self) -> None:
        """Wake the thread that waits for the server with an error. The server rolls back uncommitted changes."""
        with suppress(ReturnConnectionToPoolError):  # another thread returns it at this moment
            self._lost_changes = bool(self.lease.marks & WROTE)
            cut(self.lease)

    def enter_block(self) -> Self:
        """Begin a with-block, which `__aexit__` ends."""
        self._refuse_closed()
        if self.has_owner and not self._depth:
            self._wrote_before = self.lease.is_used and bool(self.lease.marks & WROTE)
        self._nest(1)
        return self

    def _nest(self, by: int) -> None:
        self._depth += by
        if self.has_owner:  # threads of the request use the lease too; else it is told before a thread gets it
            self.lease.task_depth = self._depth

    @property
    def in_block(self) -> bool:
        """Whether a with-block or a transaction block is open on it, in tasks or in threads."""
        return self._depth > 0 or self.lease.in_block

    async def __aenter__(self) -> Self:
        block = self.lease.block
        if not self._depth and block is not None and not block.is_transaction:
            self.lease.block = None  # of work before this block
        return self.enter_block()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._nest(-1)
        is_end = not self._depth and exception is None and not self.has_owner
        if is_end and self.returns_unchanged(*callsite.of(_getframe(1))):
            return
        if self._depth or (self.has_owner and not self.closed and self.lease.in_transaction_block):
            return  # the outer block, or the request's transaction, ends the work
        try:
            if exception is None and self._lost_changes:
                raise ConnectionInterruptedError(f"changes were not committed: this connection {self._end()}")
            block = None if self.closed else self.lease.block
            if exception is None and block is not None and not block.is_transaction:
                raise block.error() from block.cause
            if not self.closed and self.lease.marks & TRANSACTION:
                if exception is None:
                    await self._commit_at_the_end()
                elif self.has_owner and can_go_on(self.lease):
                    await self.rollback()
        except BaseException as error:
            exception = error
            raise
        finally:
            if self.has_owner and not self.closed and can_go_on(self.lease):
                await self.leave()
            elif exception is None or not self._wrote_before or self.lease.open:
                await self.give_back(exception)

    async def _commit_at_the_end(self) -> None:
        if can_go_on(self.lease):
            await self.commit()
        else:
            await self.do(lambda: self.lease.commit_at_the_end())  # raises the error that explains why it cannot

    async def leave(self) -> None:
        """Called when the outermost with-block has ended and an owner returns the connection: `_web.socket_scope`."""

    def _end(self) -> str:
        if self._was_cut:
            return "was cut off: a statement on it was cancelled"
        return f"has returned to the pool({self._pool.name}) at {callsite.describe_place(self.given_back)}"

    def note(self, query: Any) -> None:
        """Called before a cursor sends `query`; see `_web.socket_scope`."""

    def can_read_here(self) -> bool:
        """Whether all results have been read, so that a cursor can return rows without awaiting."""
        if self.given_back is None and not self._was_cut and is_between_commands(self.lease):
            return True
        self._refuse_closed()
        return False

    def _refuse_closed(self) -> None:
        if self._was_cut or self.given_back is not None:
            raise ReturnConnectionToPoolError(f"this connection {self._end()}")
        if self.lease.is_returned:
            self.lease.refuse_closed()


names_elsewhere(
    AsyncConnection,
    dir(AsyncCursor),
    "a cursor has. Write `async with connection.cursor() as cursor: await cursor.execute(...)`",
)
