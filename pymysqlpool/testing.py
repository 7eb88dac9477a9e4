"""For your own tests: undo what a test wrote, find connections that it did not return, record its statements.

    @pytest.fixture(autouse=True)
    def clean_database(pool):                  # in Flask: db.get_pool(app=app)
        with assert_nothing_borrowed(pool), rollback(pool):
            yield

    with record(pool) as queries:
        client.get("/")
    assert len(queries) == 3

With pytest, `pymysqlpool.pytest_plugin` checks every pool in every test.

Owns: these context managers. Never: for production, because these context managers replace methods while their block
lasts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Condition, Event, get_ident
from time import monotonic
from types import FrameType
from typing import Any, Self
from unittest.mock import patch
from weakref import WeakKeyDictionary

from pymysql import err
from pymysql.constants import ER, SERVER_STATUS

from ._driver.commands import Command
from ._pool import diagnostics as _report
from ._pool.lease import Connection
from ._pool.registry import all_pools
from ._util import callsite
from .errors import PoolError, PoolTimeout
from .failures import number_of
from .pool import ConnectionPool

_getframe = sys._getframe
_PATIENCE = 10.0  # seconds
_A_MOMENT = 1.0  # seconds: for threads that are about to return their connections
_PROOF = "pymysqlpool_test"  # a savepoint: as long as it is there, nothing has committed


class ImplicitCommitError(PoolError, AssertionError):
    """A statement inside `rollback()` committed the transaction around the test, which cannot be undone any more."""


@dataclass(frozen=True, slots=True)
class Query:
    """One statement that a connection of the pool has run.

    Attributes:
        statement: its text, with its arguments.
        seconds: from sending it to the end of its reply.
        place: file, line and function of the call.
    """

    statement: str
    seconds: float
    place: str


@contextmanager
def assert_nothing_borrowed(pool: ConnectionPool) -> Iterator[None]:
    """Fail when the block has borrowed connections and not returned them; the message names the call sites."""
    before = _not_given_back(pool)
    yield
    left = _not_given_back(pool) - before
    assert left <= 0, f"{left} connections of pool({pool.name}) were not given back:{_holders(pool)}"


@contextmanager
def assert_nothing_left_behind() -> Iterator[None]:
    """Fail when the block has left a lease of any pool of this process behind; the message says where it was borrowed.

    Leases without references count too, and those that were cut off because the block closed their pool. Other threads
    have a second to return what they hold.
    """
    before = WeakKeyDictionary({pool: _not_given_back(pool) for pool in all_pools()})
    cut_off: list[str] = []
    really_close = ConnectionPool.close

    def left(pool: ConnectionPool) -> int:
        return _not_given_back(pool) - before.get(pool, 0)

    def close(self: ConnectionPool, timeout: float = 10.0) -> None:
        started, number, holders = monotonic(), left(self), _holders(self)
        really_close(self, timeout)
        if number > 0 and monotonic() - started >= timeout:
            cut_off.append(f"{number} connections of pool({self.name}) until it was closed:{holders}")

    with patch.object(ConnectionPool, "close", close):
        yield
    give_up_at = monotonic() + _A_MOMENT
    while any(left(pool) > 0 for pool in all_pools()) and monotonic() < give_up_at:
        Event().wait(0.01)
    still = [
        f"{left(pool)} connections of pool({pool.name}):{_holders(pool)}" for pool in all_pools() if left(pool) > 0
    ]
    assert not cut_off + still, "not given back:\n" + "\n".join(cut_off + still)


def _not_given_back(pool: ConnectionPool) -> int:
    return (now := pool.stats()).in_use + now.leaked + len(_handles.get(pool, ()))


# Where the handles were borrowed that `rollback()` lent, until they are given back; the pool sees their one session.
_handles: WeakKeyDictionary[ConnectionPool, dict[str, str]] = WeakKeyDictionary()
_numbers = count(1)  # for the savepoints' names


def _holders(pool: ConnectionPool) -> str:
    places = _handles.get(pool, {}).values()
    held = "".join(f"\n  held inside rollback(), borrowed at {place}" for place in places)
    return _report.holders(pool) + held or " see the warning in the log"


@contextmanager
def record(pool: ConnectionPool) -> Iterator[list[Query]]:
    """Yield a list of the statements that the pool's connections run meanwhile, in any thread."""
    queries: list[Query] = []
    run = Connection.query

    def query(self: Connection, sql: Any, unbuffered: bool = False) -> int:
        if self.pool is not pool:
            return run(self, sql, unbuffered)
        started = monotonic()
        try:
            return run(self, sql, unbuffered)
        finally:
            text = sql if isinstance(sql, str) else bytes(sql).decode(errors="replace")
            queries.append(Query(text, monotonic() - started, _asker()))

    with patch.object(Connection, "query", query):
        yield queries


@contextmanager
def rollback(pool: ConnectionPool) -> Iterator[Connection]:
    """Undo at the end of the block all that was written in it over `pool`, committed or not.

    Every borrow in the block is a handle onto one session with one transaction around all of them. BEGIN, COMMIT and
    ROLLBACK, said by method or as a statement, act on a savepoint: what one borrower has committed the next one sees,
    what it has not is undone when it is given back. One thread borrows at a time, as often as it likes; the others
    wait their turn, at most the pool's timeout. Yields the session itself, to look at what is there.

    Limits: what needs two sessions (locks that block, isolation levels, a second process) cannot be tested in it, and
    SET autocommit changes nothing there.

    Raises:
        ImplicitCommitError: at a statement that commits by itself, such as DDL.
    """
    with pool.get_connection() as session:
        session.begin()
        _unrecorded(session, f"SAVEPOINT {_PROOF}")
        around = _Around(session, pool)

        with patch.object(pool, "get_connection", around.lend):
            try:
                yield session
            finally:
                around.over = True
        try:
            _unrecorded(session, f"ROLLBACK TO SAVEPOINT {_PROOF}")
        except err.MySQLError as error:
            if number_of(error) != ER.SP_DOES_NOT_EXIST:
                raise
            raise ImplicitCommitError("something in the block has committed what the test had written") from error
        finally:
            session.rollback()


class _Around:
    """The session that all handles share, and the transaction around them."""

    def __init__(self, session: Connection, pool: ConnectionPool) -> None:
        self.session = session
        self.over = False
        self._pool = pool
        self._turn = Condition()
        self._thread: int | None = None  # the thread whose turn it is; guarded by _turn
        self._lent = 0  # how many handles it has; guarded by _turn

    def lend(self, *_: Any, timeout: float | None = None, **__: Any) -> Connection:
        """`pool.get_connection` while the block lasts."""
        own, bound = get_ident(), timeout if timeout is not None else self._pool.settings.timeout or _PATIENCE
        with self._turn:
            if not self._turn.wait_for(lambda: self._thread in (None, own), bound):
                raise PoolTimeout(
                    f"inside rollback() one thread at a time borrows from pool({self._pool.name}), and another one "
                    f"has not given its connection back within {bound:g} s",
                    pool=self._pool.name,
                    waited=bound,
                )
            self._thread = own
            self._lent += 1
            handle = _Handle.__new__(_Handle)
            # The very same dict: every handle sees every reply.
            handle.__dict__ = self.session.__dict__
            handle.lend_from(self._pool)
            handle._around, handle._blocks, handle._cursor = self, 0, None
            handle.block, handle.has_owner = None, False
            handle._savepoint, handle._in_transaction = f"pymysqlpool_test_{next(_numbers)}", False
            _handles.setdefault(self._pool, {})[handle._savepoint] = callsite.describe_place(callsite.place())
            handle._set_mark()
        return handle

    def come_home(self) -> None:
        with self._turn:
            self._lent -= 1
            if not self._lent:
                self._thread = None
                self._turn.notify_all()

    def run(self, sql: Any, unbuffered: bool) -> int:
        affected = Connection.query(self.session, sql, unbuffered)
        ended = not unbuffered and not self.session.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        if ended or _LOCK_TABLES.match(sql if isinstance(sql, str) else bytes(sql[:100]).decode(errors="replace")):
            raise ImplicitCommitError(f"this statement has committed what the test had written: {sql!r}")
        return affected


class _Handle(Connection):
    """What a borrower gets inside `rollback()`: the shared session, with a transaction of its own in a savepoint."""

    # Apart from the shared dict.
    __slots__ = ("_around", "_blocks", "_cursor", "_in_transaction", "_savepoint", "block", "has_owner")
    _around: _Around
    _blocks: int
    _cursor: Any
    _in_transaction: bool
    _savepoint: str

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        text = sql if isinstance(sql, str) else bytes(sql[:100]).decode(errors="replace")
        for pattern, instead in _INSTEAD:
            if pattern.match(text):
                instead(self)
                return 0
        self._refuse_dead()
        affected = self._around.run(sql, unbuffered)
        if self._commits_each():
            self._around.session.forget_writes()
        return affected

    def _commits_each(self) -> bool:
        return bool(self.get_autocommit()) and not self._in_transaction

    def begin(self) -> None:
        self._set_mark()
        self._in_transaction = True

    def commit(self) -> None:
        self._set_mark()
        self._in_transaction = False

    def rollback(self) -> None:
        self._refuse_dead()
        if self._commits_each():
            return
        try:
            _unrecorded(self._around.session, f"ROLLBACK TO SAVEPOINT {self._savepoint}")
        except err.MySQLError as error:
            if number_of(error) != ER.SP_DOES_NOT_EXIST:
                raise
        self.commit()  # nothing is left to undo: the next unit starts here

    def autocommit(self, value: Any) -> None:
        """Not changed: the transaction around the test would end."""

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        failure: err.MySQLError | None = None
        for _, statement in commands:
            try:
                self.query(statement)
            except err.MySQLError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return []

    def __enter__(self) -> Self:
        self._refuse_dead()
        self._blocks += 1
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._blocks -= 1
        if self._returned is None and not self._blocks and not self.in_transaction_block:
            if exc_info[0] is None:
                self.commit()
            elif self.has_owner:
                self.rollback()
            if not self.has_owner:
                self.close()

    def _kept_cursor(self) -> Any:
        if self._cursor is None:
            self._cursor = self.cursor()
        return self._cursor

    def _set_mark(self) -> None:
        """What was written so far counts as committed."""
        self._refuse_dead()
        _unrecorded(self._around.session, f"SAVEPOINT {self._savepoint}")
        self._around.session.forget_writes()

    def _refuse_dead(self) -> None:
        if self._returned is not None or self._around.over:
            self.refuse_closed()

    def close(self) -> None:
        self.give_back(None, _getframe(1))

    def give_back(self, exception: BaseException | None, frame: FrameType | callsite.Spot) -> None:
        self._refuse_dead()
        try:
            self.rollback()
        finally:
            self.__dict__ = {"_returned": callsite.resolve(frame.f_code, frame.f_lasti)}
            del _handles[self._around._pool][self._savepoint]
            self._around.come_home()


# It commits, and begins a transaction for the locked tables: the server's status shows no end.
_LOCK_TABLES = re.compile(r"\s*+lock\s++tables?\b", re.IGNORECASE)
_unrecorded = Connection.query
_INSTEAD: tuple[tuple[re.Pattern[str], Callable[[_Handle], None]], ...] = (
    (re.compile(r"\s*+(begin|start\s++transaction)\b", re.IGNORECASE), _Handle.begin),
    (re.compile(r"\s*+commit\b", re.IGNORECASE), _Handle.commit),
    (re.compile(r"\s*+rollback\s*+(?:work\s*+)?;?\s*+$", re.IGNORECASE), _Handle.rollback),
    (re.compile(r"\s*+set\s++(?:session\s++|@@)?autocommit\b", re.IGNORECASE), lambda handle: None),
)


def _asker() -> str:
    """The call site: the innermost frame that is neither this package's nor PyMySQL's."""
    frame = callsite.caller()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("pymysql", "pymysqlpool"):
        frame = frame.f_back
    return callsite.describe_place((frame.f_code, frame.f_lasti) if frame is not None else None)
