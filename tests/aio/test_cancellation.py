"""Cancelled at any instant: no wrong answer, no lost capacity, no connection with two users (behaviours 30, 31)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from tests.support import wait_until

from .conftest import Opened
from .support import all_home

Cancel = Callable[[Awaitable[Any]], Awaitable[None]]


async def by_task(work: Any) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(work: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work, 0.1)


async def by_timeout(work: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await work


async def by_anyio(work: Any) -> None:
    """Its scopes cancel again and again until they are left."""
    with anyio.move_on_after(0.1) as scope:
        await work
    assert scope.cancelled_caught


WAYS: list[Cancel] = [by_task, by_wait_for, by_timeout, by_anyio]


async def answer(pool: AsyncConnectionPool, number: int) -> Any:
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT %s", (number,))
        return (await cursor.fetchone())[0]


@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
def test_a_cancelled_statements_connection_goes_to_nobody(opened: Opened, cancel: Cancel) -> None:
    async def slow(pool: AsyncConnectionPool) -> None:
        async with pool.get_connection() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT 666, SLEEP(20)")

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            await cancel(slow(pool))
            assert [await answer(pool, number) for number in range(50)] == list(range(50))
            now = pool.stats()
            assert (now.created, now.total, sum(now.discarded.values())) == (2, 1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
def test_a_cancelled_transaction_is_rolled_back(opened: Opened, admin: Any, cancel: Cancel) -> None:
    with admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE note (id INT PRIMARY KEY) ENGINE=InnoDB")

    async def slow(pool: AsyncConnectionPool, event: asyncio.Event) -> None:
        async with pool.get_connection() as connection, connection.transaction():
            await connection.cursor().execute("INSERT INTO note VALUES (1)")
            await event.wait()

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            await cancel(slow(pool, asyncio.Event()))
            await all_home(pool)
            async with pool.get_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT * FROM note")
                assert await cursor.fetchall() == ()

    asyncio.run(main())
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE note")


def test_a_cancelled_statement_is_stopped_on_the_server_when_asked_for(opened: Opened, admin: Any) -> None:
    def running() -> int:
        with admin.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(25), 321'")
            return int(cursor.fetchone()[0])

    async def main() -> None:
        async with opened(size=1, maxsize=1, kill_on_cancel=True) as pool:
            connection = await pool.get_connection()
            statement = asyncio.create_task(connection.cursor().execute("SELECT SLEEP(25), 321"))
            await asyncio.to_thread(wait_until, running, "the statement runs")
            statement.cancel()
            await all_home(pool)
            await asyncio.to_thread(wait_until, lambda: not running(), "the server stops it", 5)
            assert await answer(pool, 1) == 1

    asyncio.run(main())


def test_a_waiter_that_is_cancelled_leaves_no_hole(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            held = await pool.get_connection()
            waiting = [asyncio.create_task(answer(pool, number)) for number in range(5)]
            while pool.stats().waiting < 5:
                await asyncio.sleep(0.001)
            for number in (0, 2, 4):
                waiting[number].cancel()
            await asyncio.sleep(0)
            await held.close()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [answers[1], answers[3]] == [1, 3]
            assert pool.stats().created == 1

    asyncio.run(main())


def test_what_was_offered_in_the_instant_of_the_cancellation_is_passed_on(
    make_pool: Callable[..., ConnectionPool],
) -> None:
    sync_pool = make_pool(size=1, maxsize=1, timeout=10, pre_create_num=1)

    async def main() -> None:
        async with AsyncConnectionPool(pool=sync_pool) as pool:
            held = sync_pool.get_connection()
            waiting = [asyncio.create_task(answer(pool, number)) for number in range(2)]
            while pool.stats().waiting < 2:
                await asyncio.sleep(0.001)
            held.close()  # given to the first, which has not run since
            assert (pool.stats().in_use, pool.stats().waiting) == (1, 1)
            waiting[0].cancel()
            assert await waiting[1] == 1
            now = pool.stats()
            assert (now.created, dict(now.discarded)) == (1, {})

    asyncio.run(main())


def test_a_connection_that_is_being_made_is_not_lost_with_its_borrower(opened: Opened) -> None:
    connecting, go_on = threading.Event(), threading.Event()

    def slowly(connection: Any) -> None:
        connecting.set()
        go_on.wait(10)

    async def main() -> None:
        async with opened(size=1, maxsize=1, on_connect=slowly) as pool:
            first = asyncio.create_task(answer(pool, 1))
            await asyncio.to_thread(connecting.wait, 10)
            second = asyncio.create_task(answer(pool, 2))
            while pool.stats().waiting < 1:
                await asyncio.sleep(0.001)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert pool.stats().connecting == 1, "the thread still makes it"
            go_on.set()
            assert await second == 2
            assert pool.stats().created == 1

    asyncio.run(main())


def test_a_thousand_cancellations_at_random_instants(opened: Opened) -> None:
    """Not one wrong answer, and all of the capacity at the end."""
    answers: Counter[str] = Counter()
    chance = random.Random(20)

    async def one(pool: AsyncConnectionPool, number: int) -> None:
        async with pool.get_connection(timeout=30) as connection, connection.cursor() as cursor:
            if number % 3 == 0:
                await cursor.execute("SET @mine = %s", (number,))  # its return makes a round trip
            await cursor.execute("SELECT %s, SLEEP(%s)", (number, chance.random() * 0.004))
            row = await cursor.fetchone()
            answers["right" if row[0] == number else f"{row[0]} instead of {number}"] += 1

    async def main() -> None:
        async with opened(size=4, maxsize=4) as pool:
            loop = asyncio.get_running_loop()
            tasks: set[asyncio.Task[None]] = set()
            cancelled = number = 0
            while cancelled < 1000:
                number += 1
                task = loop.create_task(one(pool, number))
                tasks.add(task)
                loop.call_later(chance.random() * 0.02, task.cancel)
                if len(tasks) >= 8:
                    done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    cancelled += sum(task.cancelled() for task in done)
                    for task in done:
                        assert task.cancelled() or task.exception() is None, task.exception()
            await asyncio.gather(*tasks, return_exceptions=True)
            await all_home(pool)
            assert answers.keys() == {"right"}
            held = [await pool.get_connection(timeout=5) for _ in range(4)]
            assert await asyncio.gather(*(one_answer(connection, n) for n, connection in enumerate(held))) == [
                0,
                1,
                2,
                3,
            ]
            for connection in held:
                await connection.close()
            assert pool.stats().leaked == 0

    async def one_answer(connection: Any, number: int) -> int:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT %s", (number,))
            return (await cursor.fetchone())[0]  # type: ignore[no-any-return]

    asyncio.run(main())


def test_a_loop_that_ends_with_statements_under_way_gives_everything_back(
    make_pool: Callable[..., ConnectionPool],
) -> None:
    """Server shutdown: `asyncio.run` cancels what is left."""
    pool = AsyncConnectionPool(pool=make_pool(size=3, maxsize=3, timeout=10))

    async def slow() -> None:
        async with pool.get_connection() as connection:
            await connection.cursor().execute("SELECT SLEEP(20)")

    async def main() -> None:
        tasks = [asyncio.create_task(slow()) for _ in range(6)]
        while pool.stats().in_use < 3:
            await asyncio.sleep(0.001)
        await asyncio.wait(tasks, timeout=0.05)

    asyncio.run(main())
    wait_until(lambda: pool.stats().in_use == pool.stats().waiting == 0, "all of them are home", 5)
    assert asyncio.run(answer(pool, 5)) == 5
    asyncio.run(pool.close())
