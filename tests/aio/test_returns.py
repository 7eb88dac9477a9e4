"""The return of a changed session: cleaned on the event loop, and as a new one afterwards (Invariants 8, 9)."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.errors import ReturnConnectionToPoolError
from tests.proxy import Proxy
from tests.support import wait_until

from .conftest import Opened
from .support import all_home, until

QUESTION = (
    "SELECT @mine, @@sql_mode, @@time_zone, @@character_set_client, @@collation_connection, @@autocommit, DATABASE(), "
    "LAST_INSERT_ID(), @@in_transaction, @@tx_isolation, IS_USED_LOCK('mine') = CONNECTION_ID(), @@sql_select_limit"
)
CHANGES = [
    ["SET @mine = 1"],
    ["SET sql_mode = ''", "SET time_zone = '+03:00'"],
    ["SET NAMES latin1"],
    ["SET autocommit = 1"],
    ["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
    ["USE mysql"],
    ["CREATE TEMPORARY TABLE mine (id INT AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO mine VALUES (NULL)"],
    ["DO GET_LOCK('mine', 1)"],
    ["BEGIN", "SELECT COUNT(*) FROM seq_1_to_10"],
    ["SET autocommit = 1", "DO LAST_INSERT_ID(7)"],
    ["SELECT 1; SET @mine = 2"],
    ["PREPARE mine FROM 'SELECT 1'", "SET sql_select_limit = 1"],
    ["SELECT nothing_of_this_name"],
]


async def rows(connection: AsyncConnection, statement: str) -> Any:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return await cursor.fetchall()


async def change(connection: AsyncConnection, statements: list[str]) -> None:
    for statement in statements:
        cursor = connection.cursor()
        try:
            await cursor.execute(statement)
            while await cursor.nextset():
                pass
        except pymysql.err.Error:
            pass


@pytest.mark.parametrize("link", ["tcp", "unix", "tls"], indirect=True)
def test_the_next_borrower_sees_a_new_session_and_no_thread_was_needed(opened: Opened, link: dict[str, Any]) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, client_flag=CLIENT.MULTI_STATEMENTS, **link) as pool:
            async with pool.get_connection() as connection:
                (new,) = await rows(connection, QUESTION)
            await settle(pool)
            pool.pool._tend_at = float("inf")
            start = pool._workers._start_locked
            pool._workers._start_locked = lambda: pytest.fail("a thread")  # type: ignore[method-assign]
            for statements in CHANGES:
                connection = await pool.get_connection()
                await change(connection, statements)
                await connection.close()
                async with pool.get_connection() as connection:
                    assert await rows(connection, QUESTION) == (new,), statements
                    with pytest.raises(pymysql.err.Error, match=r"mine"):
                        await rows(connection, "SELECT * FROM mine")
            pool._workers._start_locked = start  # type: ignore[method-assign]
            assert pool.stats().created == 1
            assert pool.stats().reset >= 2 * len(CHANGES)

    async def settle(pool: AsyncConnectionPool) -> None:
        """The first reset after a SET also asks what a new session has; that takes a thread."""
        for statement in ("SET NAMES utf8mb4", "SET sql_mode = ''"):
            connection = await pool.get_connection()
            await connection.cursor().execute(statement)
            await connection.close()

    asyncio.run(main())


def test_a_waiter_gets_the_connection_when_it_is_clean(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:

            async def one(number: int) -> Any:
                async with pool.get_connection() as connection:
                    ((mine,),) = await rows(connection, "SELECT @mine")
                    await connection.cursor().execute("SET @mine = %s", (number,))
                    return mine

            assert await asyncio.gather(*map(one, range(20))) == [None] * 20
            assert pool.stats().created == 1

    asyncio.run(main())


def test_a_return_goes_on_when_its_task_is_cancelled(opened: Opened, proxy: Proxy) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, host="127.0.0.1", port=proxy.port) as pool:
            connection = await pool.get_connection()
            await connection.cursor().execute("SET @mine = 1")
            proxy.stalled = True
            closing = asyncio.create_task(connection.close())
            await until(lambda: any(slot.wire.exchange.locked() for slot in pool.pool._ledger.slots()))
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            del closing, connection
            gc.collect()
            assert pool.stats().in_use == 1
            waiting = asyncio.create_task(ask(pool))
            await asyncio.sleep(0.5)  # while it waits, it looks for leases of tasks that have ended
            assert not waiting.done()
            proxy.stalled = False
            assert await waiting == ((None,),)
            now = pool.stats()
            assert (now.created, now.leaked, dict(now.discarded)) == (1, 0, {})

    asyncio.run(main())


async def ask(pool: AsyncConnectionPool) -> Any:
    async with pool.get_connection() as connection:
        return await rows(connection, "SELECT @mine")


@pytest.mark.parametrize("end", ["silence", "the end of the server's side", "the end of the session"])
def test_a_cleaning_that_fails_ends_the_connection(opened: Opened, proxy: Proxy, admin: Any, end: str) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, reset_timeout=0.2, host="127.0.0.1", port=proxy.port) as pool:
            connection = await pool.get_connection()
            await connection.cursor().execute("SET @mine = 1")
            if end == "the end of the session":
                admin.kill(connection.thread_id())
                await asyncio.to_thread(wait_until, lambda: connection.lease._slot.wire.readable(0), "it has ended")
                await connection.close()
            else:
                proxy.stalled = True
                closing = asyncio.create_task(connection.close())
                await until(lambda: any(slot.wire.exchange.locked() for slot in pool.pool._ledger.slots()))
                if end != "silence":
                    proxy.cut()
                    proxy.stalled = False
                await closing
                proxy.stalled = False
            assert pool.stats().in_use == 0
            assert await ask(pool) == ((None,),)
            assert (pool.stats().created, sum(pool.stats().discarded.values())) == (2, 1)

    asyncio.run(main())


def test_a_loop_that_ends_in_a_cleaning_loses_no_capacity(
    make_pool: Callable[..., ConnectionPool], proxy: Proxy
) -> None:
    pool = AsyncConnectionPool(pool=make_pool(size=1, maxsize=1, timeout=10, host="127.0.0.1", port=proxy.port))

    async def main() -> None:
        connection = await pool.get_connection()
        await connection.cursor().execute("SET @mine = 1")
        proxy.stalled = True
        asyncio.create_task(connection.close())  # noqa: RUF006
        await until(lambda: any(slot.wire.exchange.locked() for slot in pool.pool._ledger.slots()))

    asyncio.run(main())
    proxy.stalled = False
    assert asyncio.run(ask(pool)) == ((None,),)
    asyncio.run(all_home(pool))
    asyncio.run(pool.close())


@pytest.mark.parametrize("end", ["at once", "cleaned", "in a thread"])
def test_a_report_names_the_line_of_the_return(opened: Opened, end: str) -> None:
    options: dict[str, Any] = {"on_checkin": lambda connection: None} if end == "in a thread" else {}

    async def main() -> None:
        async with opened(size=1, maxsize=1, **options) as pool:
            connection = await pool.get_connection()
            await rows(connection, "SET @mine = 1" if end == "cleaned" else "SELECT 1")
            here = f"test_returns.py:{inspect.currentframe().f_lineno + 1} in "  # type: ignore[union-attr]
            await connection.close()
            with pytest.raises(ReturnConnectionToPoolError, match=f"given back at .*{here}"):
                connection.lease.query("SELECT 1")

    asyncio.run(main())


@pytest.mark.parametrize("is_used", [False, True], ids=["unused", "used"])
def test_the_return_of_an_unchanged_connection_takes_no_thread(opened: Opened, is_used: bool) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            async with pool.get_connection():
                pass  # connects in a thread
            pool.pool._tend_at = float("inf")  # maintenance takes one
            submitted: list[Any] = []
            pool._workers.submit = submitted.append  # type: ignore[method-assign]

            async def borrow() -> None:
                for _ in range(5):
                    connection = await pool.get_connection()
                    if is_used:
                        await rows(connection, "SELECT 1")
                    await asyncio.sleep(0)
                    await connection.close()

            await asyncio.gather(borrow(), borrow())
            assert submitted == []
            del pool._workers.submit  # type: ignore[method-assign]

    asyncio.run(main())
