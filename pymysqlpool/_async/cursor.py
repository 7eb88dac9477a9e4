"""`AsyncCursor`: PyMySQL's cursor with awaited methods.

PyMySQL's own methods do the work before and after a statement (`_driver/cursors`); the connection runs the statement on
the event loop. Cursors with behaviour of their own (a subclass with its own `execute`, the wrapper of a tracing
package) run unchanged in a worker thread. Rows that are in memory are returned without awaiting.

Never: reads the rest of a result when a block ends in an exception (Invariant 10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

from .._driver import cursors as _cursors
from .._driver import steps as _steps
from .._driver.exchange import is_between_commands
from .session import Session
from .turn import Turn

_AT_ONCE = 128  # rows returned before other tasks get a turn


class Speaker(Protocol):
    """What a cursor needs from its `AsyncConnection`."""

    lease: Any
    floats: bool
    _turn: Turn

    @property
    def closed(self) -> bool: ...
    def can_read_here(self) -> bool: ...
    def note(self, query: Any) -> None: ...
    def not_answered(self, session: Session, error: BaseException, note: Callable[[Any], object]) -> NoReturn: ...
    def send_at_once(self, cursor: Any, query: Any, args: Any, unbuffered: bool) -> tuple[Session, Any] | None: ...
    async def enter(self) -> Session | None: ...
    async def query_on(self, session: Session, sql: Any, unbuffered: bool = False) -> int: ...
    async def read_next(self, session: Session, unbuffered: bool = False) -> int: ...
    async def fetch(self, session: Session, result: Any) -> bool: ...
    async def _in_turn(self, call: Callable[[], Any]) -> Any: ...


class AsyncCursor:
    """A cursor of one of PyMySQL's classes, with awaited methods. Rows in memory are returned without awaiting."""

    def __init__(self, connection: Any, cursor: Any) -> None:
        self.connection = connection
        self._cursor = cursor
        self._steps, self._unbuffered = _cursors.kind_of(cursor)

    # -- statements ----------------------------------------------------------------------------------------

    async def execute(self, query: Any, args: Any = None) -> int:
        """Run a statement and return the number of affected rows, or of rows read."""
        connection: Speaker = self.connection
        if connection.floats:
            connection.note(query)
        turn = connection._turn
        if turn.is_taken:
            await turn.wait()
        else:
            turn.is_taken = True
        try:
            cursor, unbuffered = self._cursor, self._unbuffered
            sent = connection.send_at_once(cursor, query, args, unbuffered) if self._steps else None
            if sent is None:
                session = await self._enter()
                if session is None:
                    return await self._in_a_thread(cursor.execute, query, args)  # type: ignore[no-any-return]
                return await self._execute(session, query, args)
            # `_execute` in one coroutine, for a connection that has nothing else to do first.
            lease = connection.lease
            session, reply = sent
            try:
                answer = await reply
            except BaseException as error:  # noqa: BLE001 - raised again
                connection.not_answered(session, error, lambda answer: _steps.note(lease, answer, unbuffered))
            _steps.note(lease, answer, unbuffered)
            steps = _cursors.take(cursor, lease)
            if steps is not None:
                for _ in steps:
                    while session.has_had_its_share():
                        await asyncio.sleep(0)
            return cursor.rowcount  # type: ignore[no-any-return]
        finally:
            if turn.is_waited_for:
                turn.leave()
            else:
                turn.is_taken = False

    async def executemany(self, query: Any, args: Any) -> int | None:
        """Run a statement for each item of `args`. INSERT and REPLACE become few large statements, as in PyMySQL."""
        connection: Speaker = self.connection
        connection.note(query)
        if not args:
            return None
        async with connection._turn:
            session = await self._enter()
            cursor = self._cursor
            if session is None:
                return await self._in_a_thread(cursor.executemany, query, args)  # type: ignore[no-any-return]
            statements = _cursors.statements_for_many(cursor, query, args)
            rows = 0
            if statements is None:
                for one in args:
                    rows += await self._execute(session, query, one)
            else:
                for statement in statements:
                    if statement is None:
                        await asyncio.sleep(0)
                    else:
                        rows += await self._execute(session, bytes(statement), None)
            cursor.rowcount = rows
            return rows

    async def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        """Call a stored procedure; see PyMySQL's `callproc` for its results and OUT parameters."""
        connection: Speaker = self.connection
        connection.note("CALL")
        async with connection._turn:
            session = await self._enter()
            cursor = self._cursor
            if session is None:
                return await self._in_a_thread(cursor.callproc, procname, args)
            setting, call = _cursors.statements_of_call(cursor, procname, args)
            if setting is not None:
                await self._execute(session, setting, None)
            await self._execute(session, call, None)
            return args

    async def _enter(self) -> Session | None:
        cursor = self._cursor
        session: Session | None = await self.connection.enter()
        if cursor.connection is not None:
            cursor.connection = self.connection.lease  # the connection may have another lease by now
        return session if self._steps else None

    async def _in_a_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await self.connection._in_turn(partial(call, *args))

    async def _execute(self, session: Session, query: Any, args: Any) -> int:
        connection, cursor = self.connection, self._cursor
        while _cursors.has_another(cursor, connection.lease):
            await self._next(session)
        if args is not None:
            query = cursor.mogrify(query, args)
        if _steps.serves_file(connection.lease, query):
            return await self._in_a_thread(cursor.execute, query)  # type: ignore[no-any-return]
        _cursors.begin(cursor)
        await connection.query_on(session, query, self._unbuffered)
        return await self._take(session, query)

    async def _take(self, session: Session, query: Any = None) -> int:
        cursor = self._cursor
        steps = _cursors.conversion(cursor, self.connection.lease)
        if steps is not None:
            for _ in steps:
                while session.has_had_its_share():
                    await asyncio.sleep(0)
        else:
            _cursors.answered(cursor)
        if query is not None:
            _cursors.executed(cursor, query)
        return cursor.rowcount  # type: ignore[no-any-return]

    async def _next(self, session: Session) -> None:
        _cursors.begin(self._cursor)
        await self.connection.read_next(session, self._unbuffered)
        await self._take(session)

    # -- results -------------------------------------------------------------------------------------------

    async def nextset(self) -> bool | None:
        """Go to the next result of the statement; return None if there is none."""
        connection: Speaker = self.connection
        if connection.can_read_here():
            return self._cursor.nextset()  # type: ignore[no-any-return]
        async with connection._turn:
            if not self._steps:
                return await self._in_a_thread(self._cursor.nextset)  # type: ignore[no-any-return]
            session = self._session()
            if session is None:
                return await self._in_a_thread(self._cursor.nextset)  # type: ignore[no-any-return]
            if not _cursors.has_another(self._cursor, connection.lease):
                return None
            await self._next(session)
            return True

    async def fetchone(self) -> Any:
        """The next row; None at the end."""
        if self.connection.can_read_here():
            return self._cursor.fetchone()
        return await self._fetched(1, self._cursor.fetchone)

    async def fetchmany(self, size: int | None = None) -> Any:
        """The next `size` rows (default `arraysize`); fewer at the end."""
        return await self._fetched(size or self._cursor.arraysize, self._cursor.fetchmany, size)

    async def fetchall(self) -> Any:
        """All rows that are left."""
        cursor = self._cursor
        if self.connection.can_read_here():
            return cursor.fetchall()
        if not self._unbuffered or not self._steps:
            return await self._fetched(None, cursor.fetchall)
        rows: list[Any] = []
        while some := await self.fetchmany(_AT_ONCE):
            rows += some
        return rows

    async def _fetched(self, wanted: int | None, call: Callable[..., Any], *args: Any) -> Any:
        connection: Speaker = self.connection
        if connection.can_read_here():
            return call(*args)
        result = _cursors.result_of(self._cursor)
        if not self._unbuffered:
            return call(*args)  # the replies still to come belong to another result
        if self._steps and wanted is not None and getattr(result, "at_hand", 0) >= wanted:
            return call(*args)
        async with connection._turn:
            session = self._session() if self._steps and hasattr(result, "at_hand") else None
            if session is None:
                return await self._in_a_thread(call, *args)
            while result.unbuffered_active and (wanted is None or result.at_hand < wanted):
                if not await connection.fetch(session, result):
                    break
            return call(*args)

    def _session(self) -> Session | None:
        return self.connection.session()  # type: ignore[no-any-return]

    async def scroll(self, value: int, mode: str = "relative") -> None:
        """Move the position by `value` rows, or with mode "absolute" to row `value`. An unbuffered result only moves
        forward."""
        ahead = value if mode == "relative" else value - self._cursor.rownumber
        await self._fetched(max(ahead, 1), self._cursor.scroll, value, mode)

    async def close(self) -> None:
        """Close the cursor. The rest of an unbuffered result is read only if another statement follows."""
        connection: Speaker = self.connection
        if connection.closed or self._cursor.connection is None:
            return
        if connection.can_read_here():
            if not _cursors.close_quietly(self._cursor):
                self._cursor.close()
            return
        async with connection._turn:
            session = self._session() if self._steps else None
            if session is None:
                await self._in_a_thread(self._cursor.close)
                return
            _cursors.leave(self._cursor, connection.lease)
            while _cursors.has_another(self._cursor, connection.lease):
                await self._next(session)
            self._cursor.connection = None

    # -- what needs no wait --------------------------------------------------------------------------------

    def mogrify(self, query: Any, args: Any = None) -> str:
        return self._cursor.mogrify(query, args)  # type: ignore[no-any-return]

    def setinputsizes(self, *args: Any) -> None:
        """Does nothing, required by DB API."""

    def setoutputsizes(self, *args: Any) -> None:
        """Does nothing, required by DB API."""

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount  # type: ignore[no-any-return]

    @property
    def rownumber(self) -> int:
        """The index of the next row, from 0."""
        return self._cursor.rownumber  # type: ignore[no-any-return]

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid  # type: ignore[no-any-return]

    @property
    def arraysize(self) -> int:
        """How many rows `fetchmany()` returns."""
        return self._cursor.arraysize  # type: ignore[no-any-return]

    @arraysize.setter
    def arraysize(self, rows: int) -> None:
        self._cursor.arraysize = rows

    @property
    def max_stmt_length(self) -> int:
        """The maximum length of a statement that `executemany` builds, in bytes."""
        return self._cursor.max_stmt_length  # type: ignore[no-any-return]

    @max_stmt_length.setter
    def max_stmt_length(self, length: int) -> None:
        self._cursor.max_stmt_length = length

    @property
    def closed(self) -> bool:
        return self.connection.closed or self._cursor.connection is None

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
        if is_between_commands(self.connection.lease) and _cursors.close_quietly(self._cursor):
            return
        if exception is None or self.connection.is_quiet:
            await self.close()  # after an exception the unread rows are not drained (Invariant 10)
