"""Code that runs inside a thread at every point of the pool's own code, and looks at, borrows from, gives back to or
closes the pool: a finalizer, a signal handler, a weakref callback, an audit hook, a logging handler (Invariant 19).

As in test_interrupts, a trace function counts the points; at the n-th one, instead of an exception, a visitor comes. It
is a bytecode of any kind, because the collector of CPython 3.11 runs wherever an object is made. No visitor may wait
for a lock that its thread holds, none may break the books, and the story it interrupts ends as it would without.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import pymysql
import pytest

import pymysqlpool
from pymysqlpool import ConnectionPool, GetConnectionFromPoolError
from tests.conftest import MakePool
from tests.core.test_interrupts import clean, connecting, dirty, query, transaction, two
from tests.sweep import Sweep

PACKAGE = str(Path(pymysqlpool.__file__).parent)
SIZE = 4
AT_ONCE = 1.0  # seconds; far below every timeout of the stories

Visit = Callable[[], None]

# -- how a visitor comes -------------------------------------------------------------------------------------


class Garbage:
    """In a circle with itself, so that only the collector finds it."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.itself = self

    def __del__(self) -> None:
        self.visit()


def by_a_finalizer(visit: Visit) -> None:
    Garbage(visit)
    gc.collect(0)
    gc.collect(1)


def by_a_signal_handler(visit: Visit) -> None:
    before = signal.signal(signal.SIGUSR2, lambda *_: visit())
    try:
        signal.raise_signal(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


def by_a_weakref_callback(visit: Visit) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: visit())
    del thing
    assert reference() is None


_hooked: list[Visit] = []  # an audit hook stays for ever, so there is one, which is idle most of the time


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pymysqlpool.tests.visit" and _hooked:
        _hooked.pop()()


def by_an_audit_hook(visit: Visit) -> None:
    _hooked.append(visit)
    sys.audit("pymysqlpool.tests.visit")


def by_a_logging_handler(visit: Visit) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            visit()

    log = logging.Logger("visitor")
    log.addHandler(Handler())
    log.warning("now")


WAYS = [by_a_finalizer, by_a_signal_handler, by_a_weakref_callback, by_an_audit_hook, by_a_logging_handler]


# -- what it does --------------------------------------------------------------------------------------------


def look(pool: ConnectionPool, held: Any) -> None:
    assert pool.stats().total <= SIZE
    assert "ConnectionPool" in repr(pool)
    assert pool.size + pool.connection_num >= 0


def borrow(pool: ConnectionPool, held: Any) -> None:
    try:
        lease = pool.get_connection(timeout=0)
    except GetConnectionFromPoolError:
        return  # there is none at this instant
    lease.cursor().execute("do 1")
    lease.close()


def borrow_unused(pool: ConnectionPool, held: Any) -> None:
    try:
        lease = pool.get_connection(timeout=0)
    except GetConnectionFromPoolError:
        return
    lease.close()


def give_back(pool: ConnectionPool, held: Any) -> None:
    held.close()


def give_back_dirty(pool: ConnectionPool, held: Any) -> None:
    held.execute("set @visitor = 1")
    held.close()


def invalidate(pool: ConnectionPool, held: Any) -> None:
    held.invalidate()
    held.close()


def drain(pool: ConnectionPool, held: Any) -> None:
    pool.drain()


def resize(pool: ConnectionPool, held: Any) -> None:
    pool.resize(SIZE, SIZE)


VISITS = [look, borrow, borrow_unused, give_back, give_back_dirty, invalidate, drain, resize]


# The stories, and every how many bytecodes a visitor comes where not at each.
STEPS: dict[Callable[[ConnectionPool], None], int] = {
    clean: 13,
    query: 311,
    transaction: 311,
    dirty: 311,
    connecting: 997,
    two: 31,
}


class Visitor:
    """Comes at the n-th bytecode in the package, by `way`."""

    def __init__(self, at: int, way: Callable[[Visit], None], visit: Visit) -> None:
        self.left = at
        self.way = way
        self.visit = visit
        self.came: str | None = None
        self.errors: list[BaseException] = []
        self.took = 0.0  # seconds
        self.thread = threading.get_ident()

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self.came is not None or not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                self.came = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
                started = monotonic()
                self.way(self.carefully)
                self.took = monotonic() - started
        return self.trace

    def carefully(self) -> None:
        try:
            self.visit()
        except BaseException as error:  # noqa: BLE001 - a finalizer could not raise it
            self.errors.append(error)


@pytest.fixture(autouse=True)
def no_debug_log() -> Iterator[None]:
    if not hasattr(sys, "_pymysqlpool_tests_hooked"):
        sys.addaudithook(_hook)
        sys._pymysqlpool_tests_hooked = True  # type: ignore[attr-defined]
    yield
    _hooked.clear()


def visited(story: Callable[[ConnectionPool], None], pool: ConnectionPool, visitor: Visitor) -> None:
    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks whether any frame wants them when tracing begins
    try:
        sys.settrace(visitor.trace)
        story(pool)
    finally:
        sys.settrace(before)


def check_all(pool: ConnectionPool, where: str) -> None:
    """Every slot can be had, its session is clean, and its answers are right."""
    leases = [pool.get_connection(timeout=5) for _ in range(SIZE)]
    for number, lease in enumerate(leases):
        with lease.cursor() as cursor:
            cursor.execute(f"select {number}, @x, @visitor")
            assert cursor.fetchall() == ((number, None, None),), where
        lease.close()
    stats = pool.stats()
    assert (stats.in_use, stats.connecting, stats.reserved, stats.closing, stats.waiting) == (0, 0, 0, 0, 0), where
    assert stats.idle == stats.total <= SIZE, where
    assert stats.borrowed == stats.returned
    assert not pool._lock.pending, where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.parametrize("story", STEPS)
def test_a_visitor_at_any_bytecode_neither_waits_nor_breaks_anything(
    make_pool: MakePool,
    sweep: Sweep,
    story: Callable[[ConnectionPool], None],
    visit: Callable[[ConnectionPool, Any], None],
) -> None:
    pool = make_pool(size=SIZE, maxsize=SIZE, autocommit=True)
    check_all(pool, "before")
    at, step = sweep.every(STEPS[story], whole=3)
    while True:
        held = pool.get_connection(timeout=5)
        visitor = Visitor(at, WAYS[at % len(WAYS)], lambda held=held: visit(pool, held))  # type: ignore[misc]
        visited(story, pool, visitor)
        if not held.is_returned:
            held.close()
        if visitor.came is None:
            break
        where = f"{visitor.way.__name__} at {visitor.came}"
        assert not visitor.errors, (where, visitor.errors)
        assert visitor.took < AT_ONCE, where
        check_all(pool, where)
        at += step


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", [clean, transaction, connecting])
def test_a_visitor_that_closes_the_pool_at_any_bytecode_leaves_nothing(
    make_pool: MakePool, sweep: Sweep, story: Callable[[ConnectionPool], None]
) -> None:
    """Invariant 12."""
    at, step = sweep.every(2 * STEPS[story], whole=3)
    while True:
        pool = make_pool(size=2, maxsize=2, autocommit=True)
        query(pool)
        visitor = Visitor(at, WAYS[at % len(WAYS)], lambda pool=pool: pool.close(timeout=0))  # type: ignore[misc]
        with suppress(pymysql.err.Error):  # it is closed, or its connection was cut off
            visited(story, pool, visitor)
        where = f"{visitor.way.__name__} at {visitor.came}"
        assert not visitor.errors, (where, visitor.errors)
        assert visitor.took < AT_ONCE, where
        pool.close(timeout=0)
        assert (pool.stats().total, pool.size) == (0, 0), where
        if visitor.came is None:
            break
        at += step


def test_a_borrow_inside_a_step_that_finds_none_idle_says_where_it_was(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()

    def step() -> None:
        with pytest.raises(GetConnectionFromPoolError, match=r"test_visits\.py:\d+ .*inside a step of the pool"):
            pool.get_connection(timeout=30)

    pool._lock.step(step)
    held.close()
    assert pool.stats().in_use == 0


def test_what_is_given_back_inside_a_step_is_home_when_the_step_has_ended(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, reset="always")
    held = [pool.get_connection() for _ in range(2)]

    def step() -> None:
        for one in held:
            one.close()
        assert pool.stats().in_use == 2, "no I/O inside a step"

    pool._lock.step(step)
    assert (pool.stats().in_use, pool.stats().idle, pool.stats().reset) == (0, 2, 2)
