"""How a connection goes back (must-handle 17 to 19, 21)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import ProgrammingError, connections, transaction

from tests.support import run_threads, wait_until

from .conftest import Connect
from .test_identity import ask


@pytest.fixture
def registered(connect: Connect) -> Any:
    """A wrapper that `transaction.atomic(using=...)` finds."""
    made = []

    def make(*args: Any, **changes: Any) -> Any:
        wrapper = connect(*args, **changes)
        connections[wrapper.alias] = wrapper
        made.append(wrapper)
        return wrapper

    yield make
    for wrapper in made:
        del connections[wrapper.alias]


def test_it_goes_back_to_the_pool_it_came_from(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    lender = wrapper.pool
    wrapper.settings_dict["OPTIONS"]["pool"] = {"max_size": 3}
    assert wrapper.pool is not lender
    wrapper.close()
    assert lender.stats().in_use == 0
    assert wrapper.pool.stats().borrowed == 0


def test_it_goes_back_when_pooling_was_switched_off_meanwhile(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    lender = wrapper.pool
    del wrapper.settings_dict["OPTIONS"]["pool"]
    wrapper.close()
    assert lender.stats().in_use == 0
    wrapper.ensure_connection()
    assert wrapper.pool is None
    wrapper.close()


def test_closing_twice_and_closing_the_raw_connection_is_no_error(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    wrapper.connection.close()
    assert not wrapper.is_usable()
    wrapper.close()
    wrapper.close()
    wrapper._close()
    assert wrapper.connection is None
    assert not wrapper.is_usable()
    assert wrapper.pool.stats().in_use == 0


def test_another_thread_may_close_it(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    wrapper.inc_thread_sharing()
    assert run_threads(4, lambda index: wrapper.close()) == [None] * 4
    assert wrapper.pool.stats().in_use == 0


def test_closing_inside_atomic_gives_back_and_opens_no_other(registered: Any, table: str) -> None:
    wrapper = registered()
    refused = pytest.raises(ProgrammingError, match="Cannot open a new connection in an atomic block")
    with refused, transaction.atomic(using=wrapper.alias):
        ask(wrapper, "SELECT 1")
        with wrapper.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} (name) VALUES ('lost')")
        wrapper.close()
        assert wrapper.connection is None
        assert wrapper.pool.stats().in_use == 0
        wrapper.cursor()
    assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 0


def test_a_transaction_left_open_is_rolled_back(connect: Connect, table: str) -> None:
    wrapper = connect({"max_size": 1})
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('lost')")
    wrapper.close()
    assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 0
    assert ask(wrapper, "SELECT @@autocommit") == 1


def test_an_idle_connection_holds_no_metadata_lock(connect: Connect, table: str, admin: Any) -> None:
    wrapper = connect()
    wrapper.set_autocommit(False)
    ask(wrapper, f"SELECT COUNT(*) FROM {table}")
    wrapper.close()
    with admin.cursor() as cursor:
        cursor.execute("SET lock_wait_timeout = 1")
        cursor.execute(f"ALTER TABLE {table} ADD COLUMN more INT")


def test_nothing_of_a_session_reaches_the_next_request(connect: Connect) -> None:
    wrapper = connect({"max_size": 1})
    look = (
        "SELECT CONCAT_WS(' ', DATABASE(), @@foreign_key_checks, @@time_zone, @@sql_safe_updates,"
        " @@collation_connection, IFNULL(@x, 'none'), IS_USED_LOCK('ours') IS NULL)"
    )
    fresh = ask(wrapper, look)
    session = ask(wrapper, "SELECT CONNECTION_ID()")
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0, time_zone = '+05:00', sql_safe_updates = 1")
        cursor.execute("SET NAMES latin1")
        cursor.execute("SET @x = 'secret'")
        cursor.execute("SELECT GET_LOCK('ours', 0)")
        cursor.execute("USE mysql")
        cursor.execute("CREATE TEMPORARY TABLE test.left_behind (id INT)")
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID()") == session
    assert ask(wrapper, look) == fresh
    with wrapper.cursor() as cursor, pytest.raises(ProgrammingError):
        cursor.execute("SELECT * FROM left_behind")


def test_autocommit_off_in_the_settings_is_kept(connect: Connect) -> None:
    wrapper = connect({"max_size": 1}, AUTOCOMMIT=False)
    assert ask(wrapper, "SELECT @@autocommit") == 0
    wrapper.close()
    assert ask(wrapper, "SELECT @@autocommit") == 0


def test_close_pool_closes_idle_ones_now_and_lent_ones_later(connect: Connect) -> None:
    idle, lent = connect(), connect()
    lent.ensure_connection()
    idle.ensure_connection()
    idle.close()
    pool = lent.pool
    lent.close_pool()
    lent.close_pool()
    assert (pool.stats().idle, pool.stats().in_use) == (0, 1)
    assert ask(lent, "SELECT 1") == 1
    lent.close()
    assert pool.stats().total == 0
    assert ask(lent, "SELECT 1") == 1
    assert lent.pool is not pool


def test_close_pool_may_be_called_by_many_threads_at_any_time(connect: Connect) -> None:
    """Celery calls it before and after each task."""

    def work(index: int) -> int:
        wrapper = connect().copy()
        for number in range(20):
            assert ask(wrapper, "SELECT %s", number) == number
            wrapper.close()
            wrapper.close_pool()
        return index

    assert run_threads(4, work) == [0, 1, 2, 3]


def test_close_pool_without_a_pool_does_nothing(connect: Connect) -> None:
    wrapper = connect(None)
    wrapper.ensure_connection()
    wrapper.close_pool()
    assert wrapper.is_usable()


def test_a_lease_of_a_dead_thread_is_taken_back_when_another_borrower_waits(connect: Connect) -> None:
    """Plain threads that never call connection.close(), and whose wrappers something still refers to."""
    pool = {"max_size": 2, "timeout": 20}
    kept: list[Any] = []

    def forget(index: int) -> None:
        kept.append(connect(pool))
        ask(kept[-1], "SELECT 1")

    run_threads(2, forget)
    late = connect(pool)
    assert late.pool.stats().in_use == 2
    assert ask(late, "SELECT 3") == 3
    wait_until(lambda: late.pool.stats().in_use == 1, "the dead threads' leases are back")
    assert late.pool.stats().leaked == 2


def test_a_connection_that_cannot_be_set_up_goes_back(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = connect()

    def refuse() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(wrapper, "init_connection_state", refuse)
    with pytest.raises(ZeroDivisionError):
        wrapper.ensure_connection()
    assert wrapper.pool.stats().in_use == 0
    assert wrapper.connection is None
