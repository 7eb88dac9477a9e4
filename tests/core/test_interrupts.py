"""An exception at every point of the pool's own code where Python can raise one, one after the other.

CPython looks for signals and asynchronous exceptions when a call has ended, when a function begins and when a loop
goes round (in between it cannot be interrupted, which is why `with lock:` is safe). A trace function counts those
points in this package's files and raises at the n-th. For each n (in a quick run: for a sample of them) the same little
story is told; afterwards every slot must be usable and every answer right (Invariants 3, 5, 6, 7, 11).
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pymysqlpool
from pymysqlpool import ConnectionPool, PoolTimeout
from tests.conftest import MakePool
from tests.support import Bolt, wait_until
from tests.sweep import Sweep

PACKAGE = str(Path(pymysqlpool.__file__).parent)

# An exception between socket() and the name it is bound to leaves it to the collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


INTERRUPTIBLE = ("CALL", "RESUME", "JUMP_BACKWARD")


class Striker:
    """Raises `Bolt` at the n-th point in the package where CPython may be interrupted, or in `packages`."""

    def __init__(self, at: int, packages: tuple[str, ...]) -> None:
        self.left = at
        self.packages = packages
        self.struck: str | None = None
        self.before: dict[FrameType, str] = {}

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self.struck is not None or not frame.f_code.co_filename.startswith(self.packages):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = self.before.get(frame)
            self.before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before is None or before.startswith(INTERRUPTIBLE):
                self.left -= 1
            if self.left < 0:
                self.struck = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
                raise Bolt(self.struck)
        return self.trace


def strike(at: int, work: Callable[[], object], packages: tuple[str, ...] = (PACKAGE,)) -> str | None:
    """Do `work`, and interrupt it at point `at`; returns where that was, None if it has fewer points in `packages`."""
    striker = Striker(at, packages)
    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks whether any frame wants them when tracing begins
    try:
        sys.settrace(striker.trace)
        work()
    except Bolt:
        pass
    finally:
        sys.settrace(before)
        striker.before.clear()  # frames, and with them the leases in their locals
    gc.collect()
    return striker.struck


def clean(pool: ConnectionPool) -> None:
    pool.get_connection(timeout=5).close()


def query(pool: ConnectionPool) -> None:
    connection = pool.get_connection(timeout=5)
    cursor = connection.cursor()
    cursor.execute("select 17")
    assert cursor.fetchall() == ((17,),)
    connection.close()


def transaction(pool: ConnectionPool) -> None:
    with pool.get_connection(timeout=5) as connection:
        connection.begin()
        connection.execute("do 1")


def dirty(pool: ConnectionPool) -> None:
    connection = pool.get_connection(timeout=5)
    connection.execute("set @x = 1")
    connection.close()


def connecting(pool: ConnectionPool) -> None:
    pool.drain()
    connection = pool.get_connection(timeout=5)
    connection.close()


def two(pool: ConnectionPool) -> None:
    first = pool.get_connection(timeout=5)
    second = pool.get_connection(timeout=5)
    first.close()
    second.close()


def waiting(pool: ConnectionPool) -> None:
    """Another thread hands its connections over to this one, which is struck."""
    held = [pool.get_connection(timeout=5) for _ in range(2)]
    has_left = threading.Event()

    def hand_over() -> None:
        while not (pool._ledger.waiters or has_left.is_set()):
            has_left.wait(0.001)
        held.pop().close()
        held.pop().close()

    other = threading.Thread(target=hand_over)
    other.start()
    try:
        connection = pool.get_connection(timeout=5)
        connection.execute("do 1")
        connection.close()
    finally:
        has_left.set()
        other.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("story", [clean, query, transaction, dirty, connecting, two, waiting])
def test_capacity_and_answers_survive_an_exception_at_every_bytecode(
    make_pool: MakePool, story: Callable[[ConnectionPool], None], sweep: Sweep
) -> None:
    pool = make_pool(size=2, maxsize=2, autocommit=True)
    query(pool)
    at, step = sweep.every(7)
    struck = 0
    while True:
        where = strike(at, partial(story, pool))
        if where is None:
            break
        try:
            leases = [pool.get_connection(timeout=2) for _ in range(2)]
        except PoolTimeout as error:
            raise AssertionError(f"capacity was lost at {where}") from error
        for number, lease in enumerate(leases):
            cursor = lease.cursor()
            for token in range(at * 10 + number, at * 10 + number + 3):
                cursor.execute(f"select {token}, @x")
                assert cursor.fetchall() == ((token, None),), where
            lease.close()
        stats = pool.stats()
        # A drain that was cut short may still discard one on its way home; nothing may be held or half made.
        held = (stats.in_use, stats.connecting, stats.reserved, stats.closing, stats.waiting)
        assert held == (0, 0, 0, 0, 0), (where, stats)
        assert stats.idle == stats.total <= 2, (where, stats)
        struck += 1
        at += step
    assert struck > (9 if sweep.everything else 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("used", [True, False])
def test_a_waiting_caller_gets_the_connection_whose_return_is_struck(
    make_pool: MakePool, used: bool, sweep: Sweep
) -> None:
    pool = make_pool(size=2, maxsize=2, autocommit=True)
    query(pool)
    at, step = sweep.every(5)
    struck = 0
    while True:
        answers: list[Any] = []

        def ask(token: int = at, answers: list[Any] = answers) -> None:
            with pool.get_connection(timeout=20) as connection:
                connection.execute(f"select {token}")
                answers.append(connection.fetchone())

        held = [pool.get_connection(timeout=5) for _ in range(2)]
        if used:
            held[0].execute("do 1")
        other = threading.Thread(target=ask)
        other.start()
        wait_until(lambda: pool.stats().waiting == 1, "a caller waits")
        where = strike(at, lambda held=held: held.pop(0).close())  # type: ignore[misc]
        other.join()
        assert answers == [(at,)], where
        held.pop().close()
        stats = pool.stats()
        assert (stats.in_use, stats.waiting, stats.closing) == (0, 0, 0), (where, stats)
        if where is None:
            break
        struck += 1
        at += step
    assert struck > (9 if sweep.everything else 0)
