"""Unbuffered results (SSCursor): rows come in batches, and nothing reaches beyond the lease or waits for the rest."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor, SSDictCursor

from pymysqlpool import ConnectionInterruptedError, ReturnConnectionToPoolError
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool

Numbers = Callable[[int, str], str]

# MySQL has no tables of sequences, and a bound of 1000 for such a query.
NUMBERS = """select /*+ set_var(cte_max_recursion_depth = 1000000) */ {what} from (
    with recursive numbers(seq) as (select cast(1 as signed) union all select seq + 1 from numbers where seq < {last})
    select seq from numbers) as numbers"""


@pytest.fixture
def numbers(server: DevServer) -> Numbers:
    """Makes a statement whose rows have the numbers from 1 on, as `seq`."""

    def numbers(last: int, what: str) -> str:
        if server.flavor == "mariadb":
            return f"select {what} from seq_1_to_{last}"
        return NUMBERS.format(last=last, what=what)

    return numbers


def discarded(pool: Any) -> dict[str, int]:
    return dict(pool.stats().discarded)


def test_memory_is_bounded_by_a_batch(make_pool: MakePool, numbers: Numbers) -> None:
    with make_pool(size=1).get_connection() as connection, connection.cursor(SSCursor) as cursor:
        cursor.execute(numbers(100_000, "seq, repeat('x', 100)"))
        cursor.fetchone()
        tracemalloc.start()
        try:
            assert sum(1 for _ in cursor.fetchall_unbuffered()) == 99_999
            assert tracemalloc.get_traced_memory()[1] < 3_000_000  # the rows are 20 MB
        finally:
            tracemalloc.stop()


def test_rows_that_were_received_are_not_given_after_the_lease(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    cursor = connection.cursor(SSCursor)
    cursor.execute("select 1 union select 2 union select 3")
    assert cursor.fetchone() == (1,)
    connection.close()
    for _ in range(2):
        with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
            cursor.fetchone()
    cursor.connection = None
    assert discarded(pool) == {"interrupted": 1}


def test_a_dropped_cursor_does_not_wait_for_the_rest(make_pool: MakePool, numbers: Numbers) -> None:
    pool = make_pool(size=1, maxsize=1)
    began = time.monotonic()
    connection = pool.get_connection()
    cursor = connection.cursor(SSCursor)
    cursor.execute(numbers(100_000, "seq, sleep(0.01), repeat('x', 20000)"))
    del cursor
    gc.collect()
    connection.close()
    assert time.monotonic() - began < 5
    assert discarded(pool) == {"interrupted": 1}


def test_the_rest_of_a_closed_cursor_is_read_before_the_next_statement(make_pool: MakePool, numbers: Numbers) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        cursor = connection.cursor(SSCursor)
        cursor.execute(numbers(100_000, "seq, repeat('x', 100)"))
        assert cursor.fetchmany(300)[-1][0] == 300
        cursor.close()
        assert connection.execute_query("select 'next'") == (("next",),)
    assert discarded(pool) == {}


def test_threads_that_share_a_cursor_never_get_the_same_row(make_pool: MakePool, numbers: Numbers) -> None:
    """Those that ask while another one receives are refused; no row is lost or doubled."""
    with make_pool(size=1).get_connection() as connection, connection.cursor(SSDictCursor) as cursor:
        cursor.execute(numbers(30_000, "seq"))
        seen: list[list[int]] = []

        def fetch() -> None:
            mine: list[int] = []
            seen.append(mine)
            while True:
                try:
                    row = cursor.fetchone()
                except ConnectionInterruptedError:
                    continue
                if row is None:
                    return
                mine.append(row["seq"])

        threads = [threading.Thread(target=fetch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(number for mine in seen for number in mine) == list(range(1, 30_001))


def test_a_value_that_cannot_be_converted_is_raised_in_its_turn(make_pool: MakePool, numbers: Numbers) -> None:
    """And the rows after it are there, as with PyMySQL."""

    def odd_only(value: str) -> int:
        if int(value) % 2 == 0:
            raise ValueError(value)
        return int(value)

    with make_pool(size=1).get_connection() as connection:
        connection.decoders[pymysql.constants.FIELD_TYPE.LONGLONG] = odd_only
        with connection.cursor(SSCursor) as cursor:
            cursor.execute(numbers(6, "seq"))
            for number in range(1, 7):
                if number % 2:
                    assert cursor.fetchone() == (number,)
                else:
                    with pytest.raises(ValueError, match=str(number)):
                        cursor.fetchone()
            assert cursor.fetchone() is None
