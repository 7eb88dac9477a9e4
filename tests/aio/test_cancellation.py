"""Cancelled at any instant: no wrong answer, no lost capacity, no connection with two users (behaviours 30, 31)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import anyio
import pytest
from pymysql.cursors import SSCursor

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from tests.support import wait_until

from .conftest import Opened
from .support import all_home, until

Work = Callable[[], Coroutine[Any, Any, None]]
Begun = Callable[[], Coroutine[Any, Any, None]]
Cancel = Callable[[Work, Begun], Coroutine[Any, Any, None]]


async def by_task(work: Work, begun: Begun) -> None:
    """Do `work`, and cancel it when it has `begun`."""
    task = asyncio.create_task(work())
    await begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(work: Work, begun: Begun) -> None:
    """Its time runs from the beginning; where that was too little to begin, it gets more."""
    patience = 0.1
    while True:
        seen = asyncio.create_task(begun())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(), patience)
        if seen.done():
            return
        seen.cancel()
        patience *= 2


async def by_timeout(work: Work, begun: Begun) -> None:
    async def expire() -> None:
        await begun()
        limit.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(expire())
            await work()
    await expiring


async def by_anyio(work: Work, begun: Begun) -> None:
    """Its scopes cancel again and again until they are left."""

    async def leave() -> None:
        await begun()
        scope.cancel()

    with anyio.CancelScope() as scope:
        leaving = asyncio.create_task(leave())
        await work()
    assert scope.cancelled_caught
    await leaving


WAYS: list[Cancel] = [by_task, by_wait_for, by_timeout, by_anyio]


def between_commands(slot: Any) -> bool:
    return slot.wire is None or not slot.wire.exchange.locked()


async def answer(pool: AsyncConnectionPool, number: int) -> Any:
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT %s", (number,))
        return (await cursor.fetchone())[0]


@pytest.mark.parametrize("link", ["tcp", "unix", "tls"], indirect=True)
@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
def test_the_connection_of_a_cancelled_statement_is_closed(
    opened: Opened, cancel: Cancel, link: dict[str, Any]
) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, **link) as pool:

            async def slow() -> None:
                async with pool.get_connection() as connection, connection.cursor() as cursor:
                    await cursor.execute("SELECT 666, SLEEP(20)")

            async def running() -> None:
                """Its thread waits for the reply."""
                await until(lambda: any(not between_commands(slot) for slot in pool.pool._ledger.slots()))

            await cancel(slow, running)
            assert [await answer(pool, number) for number in range(50)] == list(range(50))
            now = pool.stats()
            assert (now.created, now.total, sum(now.discarded.values())) == (2, 1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
def test_a_cancelled_transaction_is_rolled_back(opened: Opened, admin: Any, cancel: Cancel) -> None:
    with admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE note (id INT PRIMARY KEY) ENGINE=InnoDB")

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            written = asyncio.Event()

            async def write() -> None:
                async with pool.get_connection() as connection, connection.transaction():
                    await connection.cursor().execute("INSERT INTO note VALUES (1)")
                    written.set()
                    await asyncio.Event().wait()

            async def begun() -> None:
                await written.wait()

            await cancel(write, begun)
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


async def cut_short(way: int, work: Any, instant: float) -> bool:
    """Do `work`, cancelled after `instant` seconds in one of four ways; whether that came before its end."""
    if way == 0:
        task = asyncio.create_task(work)
        alarm = asyncio.get_running_loop().call_later(instant, task.cancel)
        await asyncio.wait([task])
        alarm.cancel()
        if not task.cancelled():
            task.result()
        return task.cancelled()
    if way == 1:
        with anyio.move_on_after(instant) as scope:
            await work
        return scope.cancelled_caught
    try:
        if way == 2:
            await asyncio.wait_for(work, instant)
        else:
            async with asyncio.timeout(instant):
                await work
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize("link", ["tcp", "unix", "tls"], indirect=True)
def test_a_thousand_cancellations_at_random_instants(opened: Opened, link: dict[str, Any]) -> None:
    """On a pool of four: not one wrong answer, no other error, and all of the capacity at the end."""
    wrong: list[object] = []
    ended: Counter[bool] = Counter()
    chance = random.Random(20)

    async def one(pool: AsyncConnectionPool, number: int) -> None:
        async with pool.get_connection(timeout=30) as connection:
            if number % 4 == 1:
                await connection.cursor().execute("SET @mine = %s", (number,))  # its return makes a round trip
            if number % 4 == 2:
                async with connection.transaction():
                    await ask(connection, number)
            elif number % 4 == 3:
                async with connection.cursor(SSCursor) as cursor:
                    await cursor.execute("SELECT %s + seq - 1 FROM seq_1_to_3", (number,))
                    rows = [row async for (row,) in cursor]
                    if rows != [number, number + 1, number + 2]:
                        wrong.append((number, rows))
            else:
                await ask(connection, number)

    async def ask(connection: AsyncConnection, number: int) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT %s, SLEEP(%s)", (number, chance.random() * 0.004))
            row = await cursor.fetchone()
            if row[0] != number:
                wrong.append((number, row))

    async def main() -> None:
        async with opened(size=4, maxsize=4, **link) as pool:
            numbers = count()

            async def again_and_again() -> None:
                while ended[True] < 1000:
                    number = next(numbers)
                    longest = 0.02 if ended[False] else 0.02 * 2 ** (ended[True] // 50)  # on a slow machine
                    instant = chance.random() * longest
                    ended[await cut_short(number // 4 % 4, one(pool, number), instant)] += 1

            await asyncio.gather(*(again_and_again() for _ in range(8)))
            await all_home(pool)
            assert wrong == []
            assert ended[True] >= 1000
            assert ended[False] > 0, "some came to their end"
            held = [await pool.get_connection(timeout=5) for _ in range(4)]
            await asyncio.gather(*(ask(connection, number) for number, connection in enumerate(held)))
            for connection in held:
                await connection.close()
            assert wrong == []
            assert (pool.stats().leaked, pool.stats().timeouts) == (0, 0)

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


def test_a_loop_that_is_no_asyncio_loop_is_told_so() -> None:
    """Trio's, for one; here none at all runs, which looks the same."""
    pool = AsyncConnectionPool(host="127.0.0.1", port=1)
    for work in (pool.get_connection().__aenter__(), pool.close(), pool.drain()):
        with pytest.raises(RuntimeError, match=r"works on asyncio.*Under trio"):
            work.send(None)
