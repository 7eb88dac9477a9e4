"""Leases that are not used yet: lent and given back without the lock, and a session only from the first use on."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from typing import Any

import pymysql
import pytest

import pymysqlpool
from pymysqlpool import Connection, ConnectionPool, ReturnConnectionToPoolError
from pymysqlpool._driver.protocol.columns import Columns
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool._pool.spent_lease import SpentLease
from tests.conftest import MakePool
from tests.support import run_threads, wait_until


def test_an_unused_lease_shows_what_a_used_one_shows(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, charset="latin1")
    unused = pool.get_connection()
    assert isinstance(unused, Connection)
    assert isinstance(unused, pymysql.connections.Connection)
    assert type(unused).__name__ == "Connection"
    assert "lent" in repr(unused)
    assert unused.open
    assert unused.charset == "latin1"
    assert unused._sock is not None
    with pytest.raises(AttributeError, match="no_such_thing"):
        unused.no_such_thing  # noqa: B018 - looking is the point
    unused.close()


def test_an_unused_lease_shows_what_on_connect_has_put_on_its_session(make_pool: MakePool) -> None:
    def mark(connection: Any) -> None:
        connection.mark = connection.thread_id()

    pool = make_pool(size=2, pre_create_num=2, on_connect=mark)
    leases = [pool.get_connection() for _ in range(2)]
    assert {lease.mark for lease in leases} == {lease.thread_id() for lease in leases}
    for lease in leases:
        lease.close()
    with pytest.raises(ReturnConnectionToPoolError):
        leases[0].mark  # noqa: B018 - looking is the point
    with pytest.raises(AttributeError, match="mark"):
        make_pool().get_connection().mark  # noqa: B018 - it is of the other pool's sessions


def test_what_is_set_on_an_unused_lease_holds_and_ends_with_it(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        connection.cursorclass = pymysql.cursors.DictCursor
        with connection.cursor() as cursor:
            cursor.execute("select 1 as one")
            assert cursor.fetchall() == [{"one": 1}]
    connection = pool.get_connection()
    connection.cursorclass = pymysql.cursors.DictCursor
    connection.close()
    assert pool.get_connection().cursorclass is pymysqlpool.Cursor


def test_an_unused_lease_is_dead_when_it_was_given_back(make_pool: MakePool) -> None:
    """Invariant 7."""
    pool = make_pool(size=1, maxsize=1)
    stale = pool.get_connection()
    stale.close()
    fresh = pool.get_connection()
    assert not stale.open
    assert "returned" in repr(stale)
    for use in (stale.close, stale.cursor, stale.commit, stale.ping, stale.insert_id, stale.__enter__):
        with pytest.raises(ReturnConnectionToPoolError, match=r"borrowed at .*test_untouched\.py:\d+"):
            use()
    with pytest.raises(ReturnConnectionToPoolError):
        pool.give_back(stale)
    assert fresh.execute("select 1") == 1
    assert (pool.stats().in_use, pool.stats().total) == (1, 1)
    fresh.close()


def test_a_lease_whose_return_was_cut_short_says_that_it_is_dead(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    struck = pool.get_connection()
    struck.execute("select 1")
    struck.detach_session()
    struck.__class__, struck.__dict__ = SpentLease, {}
    assert "returned" in repr(struck)
    for use in (struck.close, struck.cursor, struck.commit, lambda: struck.host):
        with pytest.raises(ReturnConnectionToPoolError, match="given back at an unknown place"):
            use()


def test_a_lease_that_the_pool_took_back_unused_reaches_no_session(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    unused = pool.get_connection()
    pool.close(timeout=0)
    if HAS_GIL:  # without one it has its session already, and PyMySQL makes a cursor without looking at it
        with pytest.raises(pymysql.err.Error):
            unused.cursor()
    with pytest.raises(pymysql.err.Error):
        unused.execute("select 1")
    unused.close()
    assert pool.stats().total == 0


@pytest.mark.usefixtures("hasty")
def test_of_threads_that_close_one_lease_at_once_one_gives_it_back(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, pre_create_num=2)
    for _ in range(300):
        lease = pool.get_connection()
        outcomes = run_threads(3, lambda _, lease=lease: lease.close())  # type: ignore[misc]
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            "ReturnConnectionToPoolError",
            "ReturnConnectionToPoolError",
        ]
        stats = pool.stats()
        assert (stats.idle, stats.in_use, stats.total) == (2, 0, 2)
        assert len({id(slot) for slot in pool._ledger.idle_slots()}) == 2


@pytest.mark.usefixtures("hasty")
def test_a_lease_is_used_or_given_back_unused_but_never_both(make_pool: MakePool) -> None:
    """One thread sends a statement while another closes the lease: its answer never reaches the next borrower."""
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    for number in range(300):
        lease = pool.get_connection(timeout=10)
        start = threading.Barrier(2)

        def use(lease: Any = lease, number: int = number, start: Any = start) -> None:
            start.wait()
            try:
                cursor = lease.cursor()
                cursor.execute(f"select {number}")
                assert cursor.fetchall() == ((number,),)
            except (pymysql.err.Error, AttributeError):
                pass  # the other one was first

        user = threading.Thread(target=use)
        user.start()
        start.wait()
        lease.close()
        following = pool.get_connection(timeout=10)
        for token in (number + 1000, number + 2000):
            with following.cursor() as cursor:
                cursor.execute(f"select {token}")
                assert cursor.fetchall() == ((token,),)
        following.close()
        user.join()


@pytest.mark.usefixtures("hasty")
def test_no_connection_is_lent_twice_and_none_is_lost_without_the_lock(make_pool: MakePool) -> None:
    """Invariants 1 to 3, where most borrowers take no lock and some must wait."""
    pool: ConnectionPool = make_pool(size=3, maxsize=3, pre_create_num=3)
    held: set[int] = set()
    twice: list[int] = []

    def borrow_again_and_again(_: int) -> None:
        for _ in range(1500):
            lease = pool.get_connection(timeout=30)
            slot = id(lease._slot)
            if slot in held:
                twice.append(slot)
            held.add(slot)
            held.discard(slot)
            lease.close()

    assert run_threads(5, borrow_again_and_again) == [None] * 5
    assert not twice
    stats = pool.stats()
    assert (stats.idle, stats.in_use, stats.waiting, stats.total) == (3, 0, 0, 3)
    assert (stats.borrowed, stats.returned) == (5 * 1500, 5 * 1500)


@pytest.mark.usefixtures("hasty")
def test_a_pool_that_closes_under_unused_leases_keeps_none(make_pool: MakePool) -> None:
    """Invariant 12."""
    for _ in range(20):
        pool = make_pool(size=4, maxsize=4, pre_create_num=4)
        closed = threading.Event()

        def borrow_until_closed(pool: ConnectionPool = pool, closed: threading.Event = closed) -> None:
            while not closed.is_set():
                try:
                    pool.get_connection(timeout=5).close()
                except pymysql.err.OperationalError:
                    return

        threads = [threading.Thread(target=borrow_until_closed) for _ in range(4)]
        for thread in threads:
            thread.start()
        pool.close(timeout=5)
        closed.set()
        for thread in threads:
            thread.join()
        assert pool.stats().total == 0
        assert not pool._ledger.idle


def test_a_lease_that_another_closes_while_its_reply_is_read_says_so(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(size=1, maxsize=1)
    lease = pool.get_connection()
    converting = Columns.converting

    def close_first(columns: Any, *arguments: Any) -> Any:
        lease.close()
        return converting(columns, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "converting", close_first)
        with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
            lease.cursor().execute("select 1")
    with pool.get_connection() as following:
        assert following.execute_query("select 2") == ((2,),)


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL a lease has its session from the beginning: no step to catch")
def test_a_return_of_what_another_thread_begins_to_use_waits_for_that_step(make_pool: MakePool) -> None:
    """The step is one under a GIL, until an audit hook is called in its middle: here it is taken by hand."""
    pool = make_pool(size=1, maxsize=1)
    lease = pool.get_connection()
    slot: Any = lease._slot
    del lease._claim
    closer = threading.Thread(target=lease.close)
    closer.start()
    wait_until(lambda: is_in(closer, "_await_claimer"), "the other thread waits")
    lease.__dict__ = slot.wire.attributes()
    lease.__class__ = Connection
    closer.join(20)
    assert (pool.stats().idle, pool.stats().in_use) == (1, 0)


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL a lease has its session from the beginning: no step to catch")
def test_a_lease_whose_first_use_was_interrupted_is_refused_and_taken_back(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    lease = pool.get_connection()
    del lease._claim
    with pytest.raises(ReturnConnectionToPoolError):
        lease.close()
    del lease
    gc.collect()
    pool.get_connection(timeout=10).close()


def is_in(thread: threading.Thread, function: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def test_a_close_that_was_looked_up_before_the_use_returns_what_was_used(make_pool: MakePool, admin: Any) -> None:
    """`stack.callback(connection.close)`, `atexit.register(connection.close)`, `addCleanup(connection.close)`."""
    admin.cursor().execute("DROP TABLE IF EXISTS looked_up")
    admin.cursor().execute("CREATE TABLE looked_up (v INT)")
    pool = make_pool(size=1, maxsize=1)
    for _ in range(2):
        connection = pool.get_connection()
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.cursor().execute("INSERT INTO looked_up VALUES (1)")
        close = connection.close
        assert (pool.stats().idle, pool.stats().in_use) == (1, 0)
        with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
            close()
    with pool.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM looked_up")
        assert cursor.fetchone() == (0,)
    assert pool.stats().created == 1


def test_a_close_that_was_looked_up_before_the_use_ends_no_return_of_another(make_pool: MakePool) -> None:
    looked_up: list[Any] = []
    refused: list[str] = []

    def close_again(connection: Any) -> None:
        try:
            looked_up[-1]()
        except ReturnConnectionToPoolError as error:
            refused.append(str(error))

    pool = make_pool(size=1, maxsize=1, on_checkin=close_again)
    for _ in range(2):
        connection = pool.get_connection()
        looked_up.append(connection.close)
        connection.query("SET @mine = 1")
        connection.close()
        assert (pool.stats().total, pool.stats().idle) == (1, 1)
    assert len(refused) == 2
