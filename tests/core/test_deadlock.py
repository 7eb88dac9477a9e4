"""Nested borrowing: callers that hold a connection and wait for another one, until none can go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pymysqlpool import ConnectionPool, PoolTimeout, SettingsError
from pymysqlpool._pool import checkout
from pymysqlpool.errors import PoolDeadlock
from tests.conftest import MakePool
from tests.support import run_threads, wait_until

ALL_WAIT = "All who hold one wait for another: a deadlock"


def warnings_of_deadlock(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "wait for another one" in (text := record.getMessage())]


@pytest.mark.parametrize("held", [1, 2])
def test_one_thread_that_waits_for_itself_is_named_at_the_timeout(make_pool: MakePool, held: int) -> None:
    pool = make_pool(size=held, maxsize=held)
    leases = [pool.get_connection() for _ in range(held)]
    for timeout in (0, 0.05):
        with pytest.raises(PoolTimeout, match=f"holds {held} of them.*nested borrowing") as caught:
            pool.get_connection(timeout=timeout)
        assert ALL_WAIT in str(caught.value)
    for lease in leases:
        lease.close()


@pytest.mark.parametrize("held", [1, 2])
def test_one_thread_that_waits_for_itself_is_ended_when_asked_so(make_pool: MakePool, held: int) -> None:
    pool = make_pool(size=1, maxsize=held, deadlock="raise")
    leases = [pool.get_connection() for _ in range(held)]
    with pytest.raises(PoolDeadlock, match=f"all {held} connections are held by callers that wait") as caught:
        pool.get_connection(timeout=40)
    assert caught.value.waited < 20
    assert isinstance(caught.value, PoolTimeout)
    assert (pool.stats().waiting, pool.stats().timeouts) == (0, 1)
    for lease in leases:
        lease.close()
    pool.get_connection(timeout=5).close()


def nest(pool: ConnectionPool, all_hold_one: threading.Barrier) -> str:
    """Hold one, and when all do, ask for another."""
    with pool.get_connection(timeout=30):
        all_hold_one.wait(20)
        with pool.get_connection(timeout=40) as second:
            return f"served {second.execute('select 1')}"


def test_of_many_that_wait_for_each_other_one_is_ended_and_all_others_are_served(make_pool: MakePool) -> None:
    pool = make_pool(size=8, maxsize=8, deadlock="raise")
    barrier = threading.Barrier(8)
    results = run_threads(8, lambda _: nest(pool, barrier))
    assert sorted(type(one).__name__ for one in results) == ["PoolDeadlock"] + ["str"] * 7, results
    assert (pool.stats().in_use, pool.stats().waiting, pool.stats().timeouts) == (0, 0, 1)


def test_by_default_one_warning_names_the_holders_and_the_waits_go_on(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(size=4, maxsize=4, name="shop")
    barrier = threading.Barrier(4)
    results: list[Any] = []
    together = threading.Thread(target=lambda: results.extend(run_threads(4, lambda _: nest(pool, barrier))))
    together.start()
    wait_until(lambda: warnings_of_deadlock(caplog), "it was warned of", timeout=20)
    assert pool.stats().waiting == 4, "no caller was refused"
    pool.resize(4, 5)  # room for one more
    together.join(30)
    assert results == ["served 1"] * 4
    [warning] = warnings_of_deadlock(caplog)
    assert "pool(shop)" in warning
    assert warning.count("borrowed at") == 4
    assert "in nest" in warning


def test_the_timeout_of_many_that_wait_for_each_other_names_it(make_pool: MakePool) -> None:
    pool = make_pool(size=3, maxsize=3)
    barrier = threading.Barrier(3)
    first_failed = threading.Event()

    def borrow(index: int) -> str:
        with pool.get_connection(timeout=30):
            barrier.wait(20)
            wait_until(lambda: index or pool.stats().waiting == 2, "the others wait")
            try:
                pool.get_connection(timeout=0.1 if index == 0 else 30).close()
            except PoolTimeout as error:
                first_failed.set()
                return str(error)
            first_failed.wait(20)
            return "served"

    failed, *served = run_threads(3, borrow)
    assert ALL_WAIT in failed
    assert failed.count("borrowed at") == 3
    assert served == ["served"] * 2


def test_a_connection_used_by_another_thread_is_that_threads(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dispatcher that borrows for its workers waits for them as long as it likes."""
    pool = make_pool(size=1, maxsize=1, deadlock="raise")
    lease = pool.get_connection()
    finish = threading.Event()

    def work() -> None:
        lease.execute("select 1")
        finish.wait(30)
        lease.close()

    borrower = pool._ledger.slots()[0].user
    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: pool._ledger.slots()[0].user is not borrower, "the worker has used it")
    looks: list[int] = []
    meets = checkout.meets_deadlock

    def look(*arguments: Any) -> bool:
        looks.append(1)
        if len(looks) == 2:
            finish.set()
        return meets(*arguments)

    monkeypatch.setattr(checkout, "meets_deadlock", look)
    pool.get_connection(timeout=30).close()
    worker.join(20)
    assert len(looks) >= 2
    assert not warnings_of_deadlock(caplog)


def test_a_holder_that_does_not_wait_makes_it_no_deadlock(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(size=2, maxsize=2, deadlock="raise")
    busy = pool.get_connection()
    held = threading.Event()

    def hold_and_ask() -> str:
        with pool.get_connection(timeout=30):
            held.set()
            with pool.get_connection(timeout=0.6):
                return "served"

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(run_threads(1, lambda _: hold_and_ask())))
    thread.start()
    held.wait(20)
    thread.join(20)
    assert [type(one) for one in results] == [PoolTimeout]
    assert ALL_WAIT not in str(results[0])
    assert not warnings_of_deadlock(caplog)
    busy.close()


def test_it_is_one_of_two_words(make_pool: MakePool) -> None:
    with pytest.raises(SettingsError, match="deadlock='panic'"):
        make_pool(deadlock="panic")


def cross(first: ConnectionPool, second: ConnectionPool, both_hold: threading.Barrier) -> str:
    """Hold the only connection of one pool, and ask for that of the other."""
    with first.get_connection(timeout=30):
        both_hold.wait(20)
        with second.get_connection(timeout=40) as connection:
            return f"served {connection.execute('select 1')}"


@pytest.mark.parametrize("modes", [("raise", "raise"), ("warn", "raise"), ("raise", "warn")])
def test_a_circle_over_two_pools_is_ended_where_one_of_them_is_told_to(
    make_pool: MakePool, modes: tuple[str, str]
) -> None:
    pools = [make_pool(size=1, maxsize=1, name=name, deadlock=mode) for name, mode in zip("ab", modes, strict=True)]
    barrier = threading.Barrier(2)
    results = run_threads(2, lambda index: cross(pools[index], pools[1 - index], barrier))
    assert sorted(type(one).__name__ for one in results) == ["PoolDeadlock", "str"], results
    [told] = [one for one in results if isinstance(one, PoolDeadlock)]
    assert "pool(a), pool(b)" in str(told)
    assert told.waited < 20
    assert [(pool.stats().in_use, pool.stats().waiting) for pool in pools] == [(0, 0), (0, 0)]
    assert sum(pool.stats().timeouts for pool in pools) == 1


def test_a_circle_over_three_pools_is_warned_of_once(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    pools = [make_pool(size=1, maxsize=1, name=name) for name in "abc"]
    barrier = threading.Barrier(3)
    results: list[Any] = []

    def all_three() -> None:
        results.extend(run_threads(3, lambda index: cross(pools[index], pools[(index + 1) % 3], barrier)))

    together = threading.Thread(target=all_three)
    together.start()
    wait_until(lambda: warnings_of_deadlock(caplog), "it was warned of", timeout=20)
    pools[0].resize(1, 2)
    together.join(30)
    assert results == ["served 1"] * 3
    [warning] = warnings_of_deadlock(caplog)
    assert "pool(a), pool(b), pool(c)" in warning


def test_a_wait_for_a_pool_whose_holder_works_is_no_circle(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """One waits for the other pool, whose holder does not wait."""
    pools = [make_pool(size=1, maxsize=1, deadlock="raise") for _ in range(2)]
    busy = pools[1].get_connection()

    def hold_one_and_ask_for_the_other() -> None:
        with pools[0].get_connection(timeout=5):
            pools[1].get_connection(timeout=0.9)

    [error] = run_threads(1, lambda _: hold_one_and_ask_for_the_other())
    assert type(error) is PoolTimeout
    assert ALL_WAIT not in str(error)
    assert not warnings_of_deadlock(caplog)
    busy.close()
