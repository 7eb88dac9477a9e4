"""The exchanges of a connection on the event loop: one after the other, each by its `Session`.

Callers hold the connection's turn. Before a statement is sent, the rest of the previous results is read, and a
transaction block whose state is in doubt asks the server. A task may be cancelled at every await here:
`not_answered` handles that.

Never: returns a connection; it only reports that an exchange was abandoned.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn
from weakref import WeakSet

from pymysql import err
from pymysql.constants import COMMAND, ER

from .._driver import cursors as _cursors
from .._driver import observed as _observed
from .._driver import steps as _steps
from .._driver.exchange import is_between_commands
from .._pool.lease import Connection
from .._util import callsite
from .session import DONTWAIT, ROWS, Session
from .tokens import Borrower, task_of

_cannot: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # loops that cannot watch descriptors


def session_of(connection: Any, loop: asyncio.AbstractEventLoop) -> Session | None:
    """Return the session that drives `connection` on `loop`; None if the kind of loop, socket or connection requires a
    worker thread."""
    _steps.touch(connection)
    known: Session | None = _steps.watch_of(connection)
    if known is not None and known.is_for(loop):
        return known
    if not DONTWAIT or not _steps.can_step(connection) or loop in _cannot:
        return None
    try:
        made: Session = _steps.put_watch_on(connection, partial(Session, loop))
        return made
    except NotImplementedError:
        _cannot.add(loop)
        return None


class Exchanges:
    """The part of an `AsyncConnection` that exchanges commands and replies."""

    lease: Connection
    token: Borrower | None
    floats: bool
    _depth: int
    _was_cut: bool
    given_back: callsite.Place | None

    async def _prepare(self) -> None:
        """If the connection `floats`, make sure that it has a lease."""

    def _refuse_closed(self) -> None:
        raise NotImplementedError

    def _left(self) -> None:
        """The task was cancelled in the middle of a reply."""
        raise NotImplementedError

    def session(self) -> Session | None:
        """The session that drives the connection on this loop; None: a worker thread must."""
        return session_of(self.lease, asyncio.get_running_loop())

    @property
    def is_quiet(self) -> bool:
        """Whether no statement is under way and no result is left to read (Invariant 6)."""
        return is_between_commands(self.lease)

    def send_at_once(self, cursor: Any, query: Any, args: Any, unbuffered: bool) -> tuple[Session, Any] | None:
        """Send a cursor's statement; returns the session and what to await for its reply, which is then to be noted, or
        `not_answered`. None: nothing was sent, because something must precede it: see `enter`. Needs the turn."""
        if self.floats or self._was_cut or self.given_back is not None or _observed.observer is not None:
            return None
        lease = self.lease
        session: Session | None = _steps.watch_if_ready(lease)
        loop = asyncio.get_running_loop()
        if session is None or session._loop is not loop or session._descriptor < 0:  # as `is_for`, without the call
            return None
        task = task_of(loop) if self.token is not None else None
        if task is None:
            return None
        if args is not None:
            query = cursor.mogrify(query, args)
        _cursors.begin(cursor)
        begun = _steps.begin_query(lease, query, weakref.ref(task), unbuffered, ROWS)
        if begun is None:
            return None
        _cursors.executed(cursor, query)
        try:
            return session, session.exchange(*begun)
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, lambda answer: None)

    async def enter(self) -> Session | None:
        """Prepare an exchange and return its session; None: a worker thread must do it. Needs the turn."""
        if self.floats:
            await self._prepare()
        self._refuse_closed()
        lease = self.lease
        session = self.session()
        if session is not None:
            if not is_between_commands(lease):
                await self._read_rest(session)
            if _steps.needs_status(lease, self._depth):
                await self._exchange_command(session, COMMAND.COM_PING)
                _steps.note_status(lease)
        return session

    async def query_on(self, session: Session, sql: str | bytes, unbuffered: bool = False) -> int:
        """Send a statement, read its first result, and return the number of affected rows."""
        if _observed.observer is None:
            return await self._exchange_command(session, COMMAND.COM_QUERY, sql, unbuffered)
        sql, end = _observed.observer(self.lease, sql)
        try:
            affected = await self._exchange_command(session, COMMAND.COM_QUERY, sql, unbuffered)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return affected

    async def _exchange_command(
        self, session: Session, command: int, sql: str | bytes = b"", unbuffered: bool = False
    ) -> int:
        lease, reply = self.lease, self.send(session, command, sql, unbuffered)
        try:
            answer = await reply
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, lambda answer: _steps.note(lease, answer, unbuffered))
        return _steps.note(lease, answer, unbuffered)

    async def all_on(self, session: Session, statements: Sequence[str]) -> list[Any]:
        """Send several statements in one go; returns the reply to each, or the error that it raises."""
        lease = self.lease
        data, steps = _steps.begin_all(lease, [(COMMAND.COM_QUERY, statement.encode()) for statement in statements])
        try:
            return await session.exchange(data, steps, _steps.read_timeout(lease))  # type: ignore[no-any-return]
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, lambda answer: None)

    def send(self, session: Session, command: int, sql: str | bytes, unbuffered: bool) -> Any:
        """Send a command. Returns what to await for its reply, which is then to be noted, or `not_answered`."""
        lease = self.lease
        task = asyncio.current_task() if self.token is not None else None
        data = _steps.begin(lease, command, sql, weakref.ref(task) if task is not None else None)
        try:
            return session.exchange(data, _steps.reader_of_reply(lease, unbuffered, ROWS), _steps.read_timeout(lease))
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, lambda answer: None)

    async def read_next(self, session: Session, unbuffered: bool = False) -> int:
        """Read the next result of the last statement."""
        lease = self.lease
        done = _steps.begin_fetch(lease)
        try:
            steps = _steps.steps_of_reply(lease, unbuffered, ROWS)
            answer = await session.read_on(steps, _steps.read_timeout(lease))
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, lambda answer: _steps.note(lease, answer, unbuffered))
        finally:
            done()
        return _steps.note(lease, answer, unbuffered)

    async def fetch(self, session: Session, result: Any) -> bool:
        """Read some rows of an unbuffered `result`; return False at the end."""
        if result.failure is not None:
            return bool(result.take([]))
        while session.has_had_its_share():
            await asyncio.sleep(0)
        lease = self.lease
        done = _steps.begin_fetch(lease)
        try:
            rows = await session.read_on(_steps.steps_of_rows(lease, result), _steps.read_timeout(lease))
        except BaseException as error:  # noqa: BLE001 - raised again
            self.not_answered(session, error, result.take)
        finally:
            done()
        return bool(result.take(rows))

    async def _read_rest(self, session: Session) -> None:
        """Read what is left of the last statement's results, as PyMySQL does before another one."""
        lease = self.lease
        result = _steps.unread(lease)
        if result is None:
            return  # quiet; or interrupted, and then the next statement is refused
        if result.unbuffered_active:
            result.skip()
            try:
                while result.unbuffered_active and await self.fetch(session, result):
                    result.skip()
            except err.OperationalError as error:
                if error.args[0] not in (ER.QUERY_TIMEOUT, ER.STATEMENT_TIMEOUT):  # as PyMySQL
                    raise
        while _steps.has_next(lease):
            await self.read_next(session)
        _steps.all_read(lease)

    def not_answered(self, session: Session, error: BaseException, note: Callable[[Any], object]) -> NoReturn:
        """Handle `error`, which ended the exchange before its reply was delivered, and raise it."""
        if isinstance(error, Exception):
            if self.given_back is None:
                _steps.lose(self.lease, error)
            raise error
        answers = session.answers()
        if answers:  # the reply had arrived when the task was cancelled
            with suppress(Exception):
                note(answers[0])
        else:
            session.abandon()
            self._left()
        raise error
