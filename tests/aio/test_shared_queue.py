"""Sync and async borrowers of one pool: one queue, in order of arrival."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pymysqlpool import ConnectionPool, PoolTimeout
from pymysqlpool._async.clock import clock_of
from pymysqlpool._pool import deadlock
from pymysqlpool._pool.while_waiting import LOOK_AROUND
from pymysqlpool.aio import AsyncConnectionPool

from .conftest import Opened
from .support import until


def test_threads_and_tasks_are_served_in_order_of_arrival(make_pool: Callable[..., ConnectionPool]) -> None:
    sync_pool = make_pool(size=1, maxsize=1, timeout=10)
    served: list[int] = []

    def in_a_thread(number: int) -> None:
        with sync_pool.get_connection():
            served.append(number)

    async def main() -> None:
        async with AsyncConnectionPool(pool=sync_pool) as pool:

            async def in_a_task(number: int) -> None:
                async with pool.get_connection():
                    served.append(number)

            held = await pool.get_connection()
            threads, tasks = [], []
            for number in range(12):
                if number % 2:
                    tasks.append(asyncio.create_task(in_a_task(number)))
                else:
                    threads.append(threading.Thread(target=in_a_thread, args=(number,)))
                    threads[-1].start()
                await until(lambda number=number: pool.stats().waiting == number + 1)  # type: ignore[misc]
            await held.close()
            await asyncio.gather(*tasks)
            await until(lambda: len(served) == 12)
            for thread in threads:
                thread.join()

    asyncio.run(main())
    assert served == list(range(12))


def test_a_pool_shared_has_its_options_already(make_pool: Callable[..., ConnectionPool]) -> None:
    with pytest.raises(TypeError, match="options already"):
        AsyncConnectionPool(pool=make_pool(), maxsize=3)


def test_loops_in_several_threads_share_a_pool(make_pool: Callable[..., ConnectionPool]) -> None:
    pool = AsyncConnectionPool(pool=make_pool(size=2, maxsize=2, timeout=10))
    wrong: list[object] = []

    async def one(number: int) -> None:
        async with pool.get_connection() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT %s", (number,))
            row = await cursor.fetchone()
            if row != (number,):
                wrong.append(row)

    async def main(first: int) -> None:
        await asyncio.gather(*(one(first + number) for number in range(40)))

    threads = [threading.Thread(target=asyncio.run, args=(main(number * 100),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert pool.stats().in_use == 0
    assert pool.stats().created <= 2
    asyncio.run(pool.close())


def test_of_thousands_of_waiters_few_look_for_a_deadlock(
    make_pool: Callable[..., ConnectionPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes time for each waiter: if each looked, the loop would do nothing else."""
    sync_pool = make_pool(size=1, maxsize=1, timeout=60)
    looks: list[object] = []
    look = deadlock._look

    def counting(core: Any) -> Any:
        looks.append(core)
        return look(core)

    monkeypatch.setattr(deadlock, "_look", counting)

    async def main() -> None:
        async with AsyncConnectionPool(pool=sync_pool) as pool:

            async def one() -> None:
                async with pool.get_connection():
                    pass

            held = await pool.get_connection()
            waiting = [asyncio.create_task(one()) for _ in range(2000)]
            began = time.monotonic()
            await until(lambda: len(looks) >= 4)
            await held.close()
            await asyncio.gather(*waiting)
            assert len(looks) <= 4 + 4 * (time.monotonic() - began) / (LOOK_AROUND / 2)

    asyncio.run(main())


def test_a_waiting_task_goes_on_right_after_the_step_that_returned_its_connection(opened: Opened) -> None:
    order: list[str] = []

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:

            async def wait() -> None:
                async with pool.get_connection() as connection:
                    order.append("the waiting task")
                    await connection.query("SELECT 1")

            connection = await pool.get_connection()
            waiting = asyncio.create_task(wait())
            await until(lambda: pool.stats().waiting == 1)
            await connection.query("SELECT 1")  # its reply continues this task
            asyncio.get_running_loop().call_soon(order.append, "the next turn of the loop")
            await connection.close()
            order.append("the step that returned it")
            await waiting

    asyncio.run(main())
    assert order == ["the step that returned it", "the waiting task", "the next turn of the loop"]


def test_a_task_that_is_cancelled_in_the_step_that_gave_it_a_connection_passes_it_on(opened: Opened) -> None:
    got: list[str] = []

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:

            async def wait(name: str) -> None:
                async with pool.get_connection() as connection:
                    got.append(name)
                    await connection.query("SELECT 1")

            connection = await pool.get_connection()
            first = asyncio.create_task(wait("first"))
            await until(lambda: pool.stats().waiting == 1)
            second = asyncio.create_task(wait("second"))
            await until(lambda: pool.stats().waiting == 2)
            await connection.query("SELECT 1")
            await connection.close()
            first.cancel()
            ended = await asyncio.gather(first, second, return_exceptions=True)
            assert isinstance(ended[0], asyncio.CancelledError)
            assert ended[1] is None
            assert pool.stats().discarded == {}

    asyncio.run(main())
    assert got == ["second"]


def test_a_lease_that_came_after_a_wait_is_kept_by_its_borrower_alone(opened: Opened) -> None:
    """Else the pool learns late that it was dropped."""

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:

            async def drop_it() -> object:
                connection = await pool.get_connection()
                lease = weakref.ref(connection.lease)
                del connection
                return lease()

            held = await pool.get_connection()
            waiting = asyncio.ensure_future(drop_it())
            await until(lambda: pool.stats().waiting == 1)
            gc.disable()
            try:
                await held.close()
                assert await waiting is None
            finally:
                gc.enable()
            async with pool.get_connection():
                pass  # the pool takes back what was dropped

    asyncio.run(main())


def test_a_wait_that_was_cancelled_leaves_nothing_to_collect(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool, pool.get_connection():
            waiting = asyncio.ensure_future(_borrow(pool))
            await until(lambda: pool.stats().waiting == 1)
            (waiter,) = pool.pool._ledger.waiters.values()
            assert waiter.sleeper is waiter  # type: ignore[attr-defined]
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiter.sleeper is None  # type: ignore[attr-defined]  # no circle

    asyncio.run(main())


def test_a_wait_that_was_served_leaves_nothing_with_the_clock_of_its_loop(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, timeout=5) as pool:

            async def borrow() -> None:
                async with pool.get_connection(), asyncio.timeout(5):
                    await asyncio.sleep(0)

            await asyncio.gather(*[borrow() for _ in range(20)])
            assert not clock_of(asyncio.get_running_loop())._ends

    asyncio.run(main())


def test_tasks_of_two_loops_that_sleep_long_each_wake_up_in_time(opened: Opened) -> None:
    """Their first sleep is looked after by the rounds of their own loop."""

    def wait_in_vain(pool: AsyncConnectionPool) -> float:
        async def main() -> float:
            began = time.monotonic()
            with pytest.raises(PoolTimeout):
                await pool.get_connection(timeout=0.6)
            return time.monotonic() - began

        return asyncio.run(main())

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool, pool.get_connection():
            took = await asyncio.gather(*[asyncio.to_thread(wait_in_vain, pool) for _ in range(2)])
            assert min(took) >= 0.6

    asyncio.run(main())


async def _borrow(pool: AsyncConnectionPool) -> None:
    await pool.get_connection()
