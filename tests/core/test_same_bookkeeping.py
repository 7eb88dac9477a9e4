"""The short text of a rule does what the long one does: compared on the same session, field by field.

A task's statement and its usual return repeat bookkeeping of the blocking way, because each call less counts there:
`steps.begin_query` that of `WireConnection._execute_command`, `quick_return.give_back_unchanged` that of
`checkin.give_back`. A short way may decline; then it has done nothing. Each kind of waiter repeats what a
plain one begins with.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from pymysqlpool._async.clock import clock_of
from pymysqlpool._async.pending import Pending
from pymysqlpool._async.waiter import AsyncWaiter
from pymysqlpool._driver import steps
from pymysqlpool._driver.commands import COM_QUERY
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool._pool.quick_return import give_back_unchanged
from pymysqlpool._pool.spent_lease import SpentLease
from pymysqlpool._pool.waiter import ThreadWaiter, Waiter
from pymysqlpool.reuse import Reason
from tests.conftest import MakePool

MISSING = object()


def slots_of(thing: Any) -> dict[str, Any]:
    names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    return {name: getattr(thing, name, MISSING) for name in names - {"__weakref__"}}


# -- waiters -------------------------------------------------------------------------------------------------


def test_every_kind_of_waiter_begins_as_a_plain_one() -> None:
    lease, task = object(), object()
    plain = slots_of(Waiter(lease))
    loop = asyncio.new_event_loop()
    try:
        awaited = AsyncWaiter(lease, loop, task, clock_of(loop))
        pending = slots_of(Pending(loop))
    finally:
        loop.close()
    for waiter in (awaited, ThreadWaiter(lease, task)):
        assert {name: getattr(waiter, name) for name in plain} == {**plain, "borrower": task}
    assert {name: getattr(awaited, name, MISSING) for name in pending} == pending


class Meanwhile:
    """An exchange lock, while which is taken another thread does something."""

    def __init__(self, lock: Any, something: Callable[[], object]) -> None:
        self._lock, self._something = lock, something

    def acquire(self, blocking: bool) -> bool:
        self._something()
        return bool(self._lock.acquire(blocking))

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return bool(self._lock.locked())


# -- statements ----------------------------------------------------------------------------------------------


def seen(lease: Any) -> dict[str, Any]:
    """All that a statement's beginning may change."""
    return {
        **{f"lease.{name}": value for name, value in lease.__dict__.items()},
        **{f"slot.{name}": value for name, value in slots_of(lease._slot).items()},
        **{f"source.{name}": value for name, value in slots_of(lease._rfile).items()},
        "exchange is taken": lease._exchange.locked(),
    }


def seen_but_the_exchange(lease: Any) -> dict[str, Any]:
    """As `seen`, where `_exchange` is no lock."""
    exchange = lease._exchange
    lease._exchange = threading.Lock()
    found = {name: value for name, value in seen(lease).items() if name != "lease._exchange"}
    lease._exchange = exchange
    return found


def put_back(lease: Any, before: dict[str, Any]) -> None:
    exchange = lease._exchange
    if exchange.locked() and not before["exchange is taken"]:
        exchange.release()
    lease.__dict__ = {name.removeprefix("lease."): value for name, value in before.items() if name[:6] == "lease."}
    for owner, prefix in ((lease._slot, "slot."), (lease._rfile, "source.")):
        for name, value in before.items():
            if name.startswith(prefix):
                setattr(owner, name.removeprefix(prefix), value)


def unread(lease: Any) -> None:
    cursor = pymysql.cursors.SSCursor(lease)
    cursor.execute("SELECT seq FROM seq_1_to_1000" if "maria" in lease.get_server_info().lower() else "SELECT 1")
    cursor.fetchone()
    lease.keep = cursor  # else it is closed, and its rows are read


def surplus(lease: Any) -> None:
    lease._rfile.buffer += b"\0"


def answered(*statements: str) -> Callable[[Any], None]:
    """The session has seen these statements, which may have failed."""

    def prepare(lease: Any) -> None:
        for statement in statements:
            with suppress(pymysql.err.MySQLError):
                lease.query(statement)

    return prepare


def assigned(**values: Any) -> Callable[[Any], None]:
    def prepare(lease: Any) -> None:
        for name, value in values.items():
            owner, _, field = name.rpartition("__")
            setattr(lease._slot if owner == "slot" else lease, field, value)

    return prepare


READY: dict[str, Callable[[Any], None]] = {
    "new": answered("DO 0"),
    "in a transaction": answered("BEGIN"),
    "after a write": answered("CREATE TEMPORARY TABLE kept (id INT)", "INSERT INTO kept VALUES (1)"),
    "with a variable": answered("SET @mine = 1"),
    "with warnings": answered("SELECT 1/0"),
    "after an error": answered("SELECT nothing_of_this_name"),
    "in another database": answered("USE mysql"),
    "with backslashes that mean nothing": answered("SET sql_mode = 'NO_BACKSLASH_ESCAPES'"),
    "without autocommit": answered("SET autocommit = 0"),
    "after a file was served": assigned(_serves_file=True),
    "after its first set-up repeated": answered("SET NAMES utf8mb4"),
    "in latin1": lambda lease: lease.set_character_set("latin1"),
}
NOT_READY: dict[str, Callable[[Any], None]] = {
    "with rows unread": unread,
    "with bytes that no command asked for": surplus,
    "in mid-exchange": lambda lease: lease._exchange.acquire(),
    "taken back": assigned(slot__holder=1),
    "without a socket": assigned(_sock=None),
    "ended by the server": assigned(ended_by_server=True),
    "of another process": assigned(_here=(0,)),
}
STATEMENTS: tuple[str | bytes, ...] = (
    "SELECT 1",
    b"SELECT 1",
    "SELECT 'caf\xe9', '\\\\''; '",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1 WHERE b = '\\' OR c = \"'\"",
    "SET @mine = 2",
    "SET NAMES utf8mb4",
    "SET autocommit = 0",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "USE mysql",
    "LOCK TABLES t READ",
    "CREATE TEMPORARY TABLE t (id INT)",
    "CALL p()",
    "SELECT 1; SET @mine = 3",
    "SELECT GET_LOCK('mine', 1)",
    "",
)
LARGE = "SELECT '" + "x" * (16 << 20) + "'"


class Task:
    """Stands for the task that uses the connection."""


def begun(lease: Any, statement: str | bytes, user: Any) -> tuple[bytes, dict[str, Any]]:
    """What the long way sends, and leaves on the session; which is put back."""
    before = seen(lease)
    data = steps.begin(lease, COM_QUERY, statement, user)
    after = seen(lease)
    put_back(lease, before)
    return data, after


@pytest.mark.parametrize("state", READY)
@pytest.mark.parametrize("options", [{}, {"track_commits": True}, {"reset": "always"}], ids=str)
def test_a_tasks_statement_begins_as_a_threads_does(make_pool: MakePool, state: str, options: dict[str, Any]) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS, **options)
    lease: Any = pool.get_connection()
    answered("DO 0")(lease)
    READY[state](lease)
    task = Task()
    user = weakref.ref(task)
    for statement in STATEMENTS:
        before = seen(lease)
        expected = begun(lease, statement, user)
        assert seen(lease) == before
        made = steps.begin_query(lease, statement, user, False, 100)
        data = made and made[0]
        assert data is not None, f"{statement!r} takes the long way"
        assert (data, seen(lease)) == expected, statement
        put_back(lease, before)
    lease.close()


@pytest.mark.parametrize("state", NOT_READY)
def test_a_tasks_statement_that_cannot_begin_at_once_changes_nothing(make_pool: MakePool, state: str) -> None:
    lease: Any = make_pool(size=1, maxsize=1).get_connection()
    answered("DO 0")(lease)
    sane = seen(lease)
    NOT_READY[state](lease)
    before = seen(lease)
    assert steps.begin_query(lease, "SELECT 1", None, False, 100) is None
    assert seen(lease) == before
    if state != "with rows unread":
        put_back(lease, sane)
        if lease._exchange.locked():
            lease._exchange.release()
    lease.close()


def test_a_tasks_statement_on_a_connection_that_is_given_back_at_this_moment_is_not_begun(make_pool: MakePool) -> None:
    lease: Any = make_pool(size=1, maxsize=1).get_connection()
    answered("DO 0")(lease)
    exchange = lease._exchange
    lease._exchange = Meanwhile(exchange, lambda: lease.__dict__.update(_exchange=None))
    before = seen_but_the_exchange(lease)
    assert steps.begin_query(lease, "SELECT 1", None, False, 100) is None
    assert not exchange.locked()
    assert seen_but_the_exchange(lease) == before
    lease._exchange = exchange
    lease.close()


def test_a_large_statement_of_a_task_takes_the_long_way(make_pool: MakePool) -> None:
    lease: Any = make_pool(size=1, maxsize=1).get_connection()
    answered("DO 0")(lease)
    before = seen(lease)
    assert steps.begin_query(lease, LARGE, None, False, 100) is None
    assert seen(lease) == before
    lease.close()


# -- returns -------------------------------------------------------------------------------------------------

PLACE, OFFSET = seen.__code__, 8


class Spot:
    """A call site that is always the same."""

    f_code, f_lasti = PLACE, OFFSET


UNCHANGED: dict[str, Callable[[Any], None]] = {
    "unused": lambda lease: None,
    "looked at": lambda lease: lease._sock,
    "after a SELECT": answered("SELECT 1"),
    "after many": answered("SELECT 1", "SELECT 'caf\xe9'", "SHOW STATUS LIKE 'Uptime'", "DO 0"),
}
CHANGED: dict[str, Callable[[Any], None]] = {
    **{name: READY[name] for name in ("in a transaction", "after a write", "with a variable", "in another database")},
    **{name: READY[name] for name in ("without autocommit", "in latin1", "with warnings", "after an error")},
    "after LAST_INSERT_ID": answered("DO LAST_INSERT_ID(7)"),
    "of another reading time": lambda lease: lease._sock and setattr(lease, "_current_timeout", 7),
    "with rows unread": unread,
    "with bytes that no command asked for": lambda lease: lease._sock and surplus(lease),
    "in mid-exchange": lambda lease: lease._sock and lease._exchange.acquire(),
    "without a socket": lambda lease: lease._sock and lease.drop_socket(),
    "expired": lambda lease: lease._sock and lease._slot.expire(Reason.GENERATION),
    "expired by age": lambda lease: lease._sock and lease._slot.live_until(1.0),
    "taken back": lambda lease: lease._sock and assigned(slot__holder=1)(lease),
    "when maintenance is due": lambda lease: lease._sock and setattr(lease._pool, "_tend_at", 0.0),
    "unused when maintenance is due": lambda lease: setattr(lease._pool, "_tend_at", 0.0),
    "unused and taken back": assigned(slot__holder=1),
    "unused and expired": lambda lease: lease._slot.expire(Reason.WORN),
    "doubted": lambda lease: lease._sock and lease._slot.doubt(),
    "detached": lambda lease: lease._sock and lease.detach(),
    "while returns are logged": lambda lease: lease._sock and setattr(lease._pool, "_verbose", True),
    "unused while returns are logged": lambda lease: setattr(lease._pool, "_verbose", True),
}


def returned(
    pool: ConnectionPool, prepare: Callable[[Any], None], give_back: Callable[[Any], Any], lock_free: bool
) -> dict[str, Any]:
    """All that a borrow and `give_back` have left of the lease, its slot and the pool, without instants."""
    lease: Any = pool.get_connection()
    slot = lease._slot
    prepare(lease)
    before, start = pool.stats().use, slot.since
    pool._ledger.lock_free = lock_free
    answer = give_back(lease)
    use = pool.stats().use
    own = {f"lease.{name}": value for name, value in slots_of(lease).items()}
    of_slot = {f"slot.{name}": value for name, value in slots_of(slot).items()}
    of_slot["slot.holder"] = [id(idle) for idle in pool._ledger.idle].index(slot.holder)
    for instant in ("since", "fresh_until", "lent", "queries"):
        del of_slot[f"slot.{instant}"]
    return {
        **own,
        **of_slot,
        "answer": answer,
        "class": type(lease),
        "attributes": dict(lease.__dict__),
        "exchange is taken": slot.wire.exchange.locked(),
        "uses": sum(use.counts) - sum(before.counts),
        "time counted": (use.sum > before.sum, slot.since > start),
        "idle": [slots_of(idle).keys() for idle in pool._ledger.idle],
        "stats": {name: getattr(pool.stats(), name) for name in ("total", "idle", "in_use", "reset", "discarded")},
    }


@pytest.mark.skipif(not HAS_GIL, reason="the short return needs the GIL")
@pytest.mark.parametrize(
    ("state", "lock_free"),
    [(state, lock_free) for state in UNCHANGED for lock_free in (True, False)],
)
@pytest.mark.parametrize("options", [{}, {"max_uses": 100}, {"con_lifetime": 600}], ids=str)
def test_a_tasks_usual_return_leaves_what_a_threads_does(
    make_pool: MakePool, state: str, options: dict[str, Any], lock_free: bool
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, pre_create_num=1, **options)
    pool.get_connection().close()

    def long(lease: Any) -> bool:
        if state == "unused" and lock_free:
            lease.close()
        else:
            lease.give_back(None, Spot)
        return True

    def short(lease: Any) -> bool:
        return give_back_unchanged(lease, PLACE, OFFSET)

    assert returned(pool, UNCHANGED[state], short, lock_free) == returned(pool, UNCHANGED[state], long, lock_free)


@pytest.mark.skipif(not HAS_GIL, reason="the short return needs the GIL")
@pytest.mark.parametrize(
    ("state", "options"),
    [
        *((state, {}) for state in CHANGED),
        *((state, {"reset": "always"}) for state in ("unused", "after a SELECT")),
        ("after a SELECT", {"track_commits": True}),
    ],
    ids=str,
)
def test_a_tasks_return_that_is_not_the_usual_one_changes_nothing(
    make_pool: MakePool, state: str, options: dict[str, Any]
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, **options)
    lease: Any = pool.get_connection()
    slot = lease._slot
    exchange = slot.wire.exchange
    (CHANGED | UNCHANGED)[state](lease)
    before = type(lease), slots_of(lease), dict(lease.__dict__), slots_of(slot), exchange.locked()
    assert give_back_unchanged(lease, PLACE, OFFSET) is False
    assert (type(lease), slots_of(lease), dict(lease.__dict__), slots_of(slot), exchange.locked()) == before
    slot.holder = id(lease)
    lease.close()
    assert pool.stats().in_use == 0


def emptied(lease: Any) -> None:
    lease.__dict__ = {}


def half_returned(lease: Any) -> None:
    del lease.__dict__["_live"]


def cut_off(lease: Any) -> None:
    lease._slot.wire = None


@pytest.mark.skipif(not HAS_GIL, reason="the short return needs the GIL")
@pytest.mark.parametrize("ended", [half_returned, emptied, cut_off])
def test_a_tasks_return_that_another_thread_has_begun_changes_nothing(
    make_pool: MakePool, ended: Callable[[Any], None]
) -> None:
    lease: Any = make_pool(size=1, maxsize=1, autocommit=True).get_connection()
    lease.query("SELECT 1")
    slot, wire, attributes = lease._slot, lease._slot.wire, dict(lease.__dict__)
    ended(lease)
    before = type(lease), slots_of(lease), dict(lease.__dict__), slots_of(slot)
    assert give_back_unchanged(lease, PLACE, OFFSET) is False
    assert (type(lease), slots_of(lease), dict(lease.__dict__), slots_of(slot)) == before
    assert not wire.exchange.locked()
    slot.wire, lease.__dict__ = wire, attributes
    lease.close()


@pytest.mark.skipif(not HAS_GIL, reason="the short return needs the GIL")
def test_a_tasks_return_passes_on_nothing_that_another_thread_returns_at_this_moment(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    lease: Any = pool.get_connection()
    lease.query("SELECT 1")
    wire, exchange = lease._slot.wire, lease._slot.wire.exchange
    uses = sum(pool.stats().use.counts)
    wire.exchange = Meanwhile(exchange, lambda: half_returned(lease))
    assert give_back_unchanged(lease, PLACE, OFFSET) is True
    assert not exchange.locked()
    assert (pool.stats().idle, sum(pool.stats().use.counts)) == (0, uses), "the other thread's return does that"
    assert type(lease) is SpentLease
    wire.exchange = exchange


@pytest.mark.skipif(not HAS_GIL, reason="the short return needs the GIL")
def test_a_second_return_of_a_task_changes_nothing(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    pool.get_connection().close()  # the first return may do maintenance, which a task's short one leaves to others
    for use in (UNCHANGED["unused"], UNCHANGED["after a SELECT"]):
        lease: Any = pool.get_connection()
        use(lease)
        assert give_back_unchanged(lease, PLACE, OFFSET)
        before = slots_of(lease)
        assert not give_back_unchanged(lease, PLACE, OFFSET)
        assert slots_of(lease) == before
    assert pool.stats().idle == 1
