"""A connection that has expired, for whatever reason, is not lent again, however it comes home."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.reuse import Reason
from tests.conftest import MakePool

# The ways home. Each gets a lent connection that has expired in its borrower's hands.


def unused(lease: Any) -> None:
    lease.close()


def clean(lease: Any) -> None:
    lease.cursor().execute("select 1")
    lease.close()


def in_a_transaction(lease: Any) -> None:
    lease.begin()
    lease.cursor().execute("do 1")
    lease.close()


def dirty(lease: Any) -> None:
    lease.cursor().execute("set @x = 1")
    lease.close()


def after_an_error(lease: Any) -> None:
    with suppress(pymysql.err.ProgrammingError), lease, lease.cursor() as cursor:
        cursor.execute("no such statement")


HANDED_BACK: list[Callable[[Any], None]] = [unused, clean, in_a_transaction, dirty, after_an_error]
REASONS = [Reason.EXPIRED, Reason.GENERATION, Reason.SURPLUS, Reason.WORN, Reason.LOST, Reason.INVALIDATED]
EXPIRE: dict[Reason, Callable[[Any], None]] = {
    reason: lambda slot, reason=reason: slot.expire(reason) for reason in REASONS
}  # type: ignore[misc]
EXPIRE[Reason.EXPIRED] = lambda slot: setattr(slot, "expires_at", 0.0)  # by age


def session_of(pool: ConnectionPool) -> int:
    """The pool's one session, without touching the lease that has it."""
    return int(pool._ledger.slots()[0].wire.attributes()["server_thread_id"][0])


def next_session(pool: ConnectionPool) -> int:
    with pool.get_connection(timeout=10) as connection:
        return connection.thread_id()


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("way_home", HANDED_BACK)
@pytest.mark.parametrize("reason", REASONS)
def test_an_expired_connection_is_discarded_for_its_reason_on_every_way_home(
    make_pool: MakePool, reason: Reason, way_home: Callable[[Any], None], reset: str
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, reset=reset)
    before = next_session(pool)
    lease = pool.get_connection()
    EXPIRE[reason](lease._slot)
    way_home(lease)
    assert dict(pool.stats().discarded) == {reason.value: 1}
    assert next_session(pool) != before


@pytest.mark.parametrize("reason", REASONS)
def test_an_expired_connection_that_is_idle_is_not_lent(make_pool: MakePool, reason: Reason) -> None:
    pool = make_pool(size=1, maxsize=1)
    before = next_session(pool)
    slot = pool._ledger.slots()[0]
    slot.fresh_until = 0.0
    EXPIRE[reason](slot)
    assert next_session(pool) != before
    assert dict(pool.stats().discarded) == {reason.value: 1}


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("thread_ends", [False, True], ids=["dropped", "thread ended"])
def test_an_expired_connection_that_is_not_given_back_is_not_lent(
    make_pool: MakePool, reason: Reason, thread_ends: bool
) -> None:
    pool = make_pool(size=1, maxsize=1)
    before = next_session(pool)
    kept: list[Any] = []

    def borrow() -> None:
        lease = pool.get_connection()
        EXPIRE[reason](lease._slot)
        if thread_ends:
            kept.append(lease)

    thread = threading.Thread(target=borrow)
    thread.start()
    thread.join()
    gc.collect()
    assert next_session(pool) != before
    assert dict(pool.stats().discarded) == {"leaked": 1}


@pytest.mark.parametrize("statement", [None, "select 1", "begin", "set @x = 1"])
@pytest.mark.parametrize("reason", REASONS)
def test_an_expired_connection_of_a_task_is_discarded_for_its_reason(
    make_pool: MakePool, reason: Reason, statement: str | None
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    before = next_session(pool)

    async def borrow() -> None:
        tasks = AsyncConnectionPool(pool=pool)
        try:
            async with tasks.get_connection() as connection:
                EXPIRE[reason](connection.lease._slot)
                if statement is not None:
                    await connection.cursor().execute(statement)
        finally:
            tasks.end_threads()

    asyncio.run(borrow())
    assert dict(pool.stats().discarded) == {reason.value: 1}
    assert next_session(pool) != before


@pytest.mark.parametrize("reset", ["auto", "always", "never"])
@pytest.mark.parametrize("way_home", [*HANDED_BACK, None])
def test_with_max_uses_a_connection_is_replaced_after_so_many_borrows(
    make_pool: MakePool, way_home: Callable[[Any], None] | None, reset: str
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, max_uses=3, reset=reset)
    sessions = []
    for _ in range(9):
        lease = pool.get_connection(timeout=10)
        sessions.append(session_of(pool))
        if way_home is not None:
            way_home(lease)
        else:
            del lease
            gc.collect()
    per_session = [sessions.count(session) for session in dict.fromkeys(sessions)]
    assert per_session == ([3, 3, 3] if way_home is not None else [1] * 9)
    if way_home is not None:
        assert dict(pool.stats().discarded) == {"worn": 3}


@pytest.mark.parametrize("statement", [None, "select 1", "begin", "set @x = 1"])
def test_with_max_uses_tasks_and_threads_wear_a_connection_alike(make_pool: MakePool, statement: str | None) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, max_uses=3)
    sessions = []

    async def borrow() -> None:
        tasks = AsyncConnectionPool(pool=pool)
        try:
            for _ in range(4):
                async with tasks.get_connection() as connection:
                    sessions.append(session_of(pool))
                    if statement is not None:
                        await connection.cursor().execute(statement)
        finally:
            tasks.end_threads()

    asyncio.run(borrow())
    assert [sessions.count(session) for session in dict.fromkeys(sessions)] == [3, 1]
    with pool.get_connection() as connection:
        assert connection.thread_id() == sessions[-1]
    with pool.get_connection() as connection:
        assert connection.thread_id() == sessions[-1]
    assert next_session(pool) not in sessions


def test_with_max_uses_a_handed_over_connection_wears_too(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, max_uses=2)
    sessions: list[int] = []

    def borrow() -> None:
        for _ in range(20):
            with pool.get_connection(timeout=30) as connection:
                sessions.append(connection.thread_id())

    threads = [threading.Thread(target=borrow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions) == 60
    assert max(sessions.count(session) for session in sessions) <= 2


def test_surplus_connections_are_pardoned_as_soon_as_the_bound_holds(make_pool: MakePool) -> None:
    pool = make_pool(size=3, maxsize=3)
    leases = [pool.get_connection() for _ in range(3)]
    sessions = [lease.thread_id() for lease in leases]
    pool.resize(1, 1)
    for lease in leases:
        lease.close()
    assert dict(pool.stats().discarded) == {"surplus": 2}
    assert next_session(pool) == sessions[-1]


def test_old_news_expires_nothing_new(make_pool: MakePool) -> None:
    """Three connections meet the same failover: the second and third report are about connections that are gone."""
    pool = make_pool(size=4, maxsize=4)
    old = [pool.get_connection() for _ in range(3)]
    pool.give_back(old[0], pymysql.err.OperationalError(1836, "running in read-only mode"))
    new = next_session(pool)
    for lease in old[1:]:
        pool.give_back(lease, pymysql.err.OperationalError(1836, "running in read-only mode"))
    assert next_session(pool) == new
    assert dict(pool.stats().discarded) == {"read only": 3}
