"""What a wait in vain reports: the numbers, and of each holder its name, how long, where, in what state."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from pymysqlpool import ConnectionPool, PoolOverloaded, PoolTimeout
from pymysqlpool._pool import diagnostics as _report
from tests.conftest import MakePool


def timeout_of(pool: ConnectionPool) -> str:
    with pytest.raises(PoolTimeout) as caught:
        pool.get_connection(timeout=0)
    return str(caught.value)


def test_each_holder_is_named_with_its_thread_its_time_its_place_and_its_transaction(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, name="shop")
    kept: list[Any] = []
    ready, finish = threading.Event(), threading.Event()

    def book() -> None:
        with pool.get_connection() as connection:
            connection.begin()
            connection.execute("do 1")
            ready.set()
            finish.wait(20)

    clerk = threading.Thread(target=book, name="clerk")
    clerk.start()
    assert ready.wait(20)
    kept.append(pool.get_connection())
    text = timeout_of(pool)
    finish.set()
    clerk.join(20)
    kept[0].close()
    assert "pool(shop)" in text
    assert "2 in use, 0 idle, 0 connecting of maxsize=2, 0 waiting" in text
    here = re.escape(__file__)
    assert re.search(
        rf"held for \d+\.\d s by thread 'clerk', in a transaction, borrowed at {here}:\d+ in .*book\n", text
    )
    assert re.search(
        rf"held for \d+\.\d s by thread 'MainThread', not in a transaction, borrowed at {here}:\d+ in test_each_holder",
        text,
    )
    assert text.index("clerk") < text.index("MainThread"), "the longest holder comes first"


def test_the_line_is_the_one_that_borrowed(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    kept = pool.get_connection()
    line = test_the_line_is_the_one_that_borrowed.__code__.co_firstlineno + 2
    assert f"{__file__}:{line} in" in timeout_of(pool)
    kept.close()


def test_the_state_of_the_last_borrower_is_not_told_of_the_next(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        connection.begin()
        connection.execute("do 1")
    kept = pool.get_connection()
    assert ", not in a transaction" in timeout_of(pool)
    kept.close()


def test_of_many_holders_the_first_ten_are_named(make_pool: MakePool) -> None:
    pool = make_pool(size=13, maxsize=13)
    kept = [pool.get_connection() for _ in range(13)]
    text = timeout_of(pool)
    assert text.count("held for") == 10
    assert "and 3 more" in text
    for one in kept:
        one.close()


def test_only_a_timeout_is_worth_a_report(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[ConnectionPool] = []
    monkeypatch.setattr(_report, "holders", lambda pool, waiter: told.append(pool) or "")
    pool = make_pool(size=1, maxsize=1, max_waiting=0)
    kept = pool.get_connection()
    with pytest.raises(PoolOverloaded):
        pool.get_connection(timeout=5)
    kept.close()
    pool.get_connection(timeout=5).close()
    assert not told
    kept = pool.get_connection()
    timeout_of(pool)
    assert told == [pool]
    kept.close()
