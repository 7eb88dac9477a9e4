"""What goes to a worker thread: connecting, looking after what is in doubt, and nothing that is said every day.

Counted, not timed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

from pymysqlpool._async import worker as _worker
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool

from .conftest import Opened


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that was given to a worker thread of a pool."""
    taken: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
            taken.append(call)
            return super().submit(call, *args, **options)

    monkeypatch.setattr(_worker, "ThreadPoolExecutor", Counting)
    return taken


@pytest.fixture
def table(admin: Any) -> Iterator[None]:
    with admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE trip (id INT PRIMARY KEY) ENGINE=InnoDB")
    yield
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE trip")


async def borrow(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection():
        pass


async def borrow_after_an_expiry(pool: AsyncConnectionPool) -> None:
    await pool.drain()  # closes the idle one in a thread of its own
    await borrow(pool)


async def borrow_a_dead_one(pool: AsyncConnectionPool) -> None:
    pool.pool._ledger.idle_slots()[0].wire.cut()
    await borrow(pool)


async def borrow_and_ping(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection(pre_ping=True):
        pass


async def read(pool: AsyncConnectionPool) -> None:
    """What nearly every request does."""
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4")
        assert await cursor.fetchone() == (1,)
        assert await cursor.fetchmany(1) == ((2,),)
        assert await anext(cursor) == (3,)
        assert await cursor.fetchall() == ((4,),)
        assert await cursor.nextset() is None
        await connection.commit()


async def read_twice(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        for _ in range(2):
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT 1")
                assert await cursor.fetchall() == ((1,),)


async def two_result_sets(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT 1; SELECT 2")
        assert await cursor.nextset()
        assert await cursor.fetchall() == ((2,),)


async def stream(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection, connection.cursor(SSCursor) as cursor:
        await cursor.execute("SELECT 1 UNION SELECT 2")
        assert [row async for row in cursor] == [(1,), (2,)]


async def write(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.executemany("REPLACE INTO trip VALUES (%s)", [(1,), (2,)])


async def transaction(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection, connection.transaction():
        await connection.cursor().execute("REPLACE INTO trip VALUES (3)")


async def rolled_back(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        await connection.rollback()
        await connection.begin()
        await connection.rollback()


async def dirty(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        await connection.cursor().execute("SET @mine = 1")


async def wrote_and_forgot(pool: AsyncConnectionPool) -> None:
    connection = await pool.get_connection()
    await connection.cursor().execute("REPLACE INTO trip VALUES (4)")
    await connection.close()


async def half_read(pool: AsyncConnectionPool) -> None:
    connection = await pool.get_connection()
    await connection.cursor(SSCursor).execute("SELECT seq FROM seq_1_to_1000")
    await connection.close()


async def run_a_function(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        await connection.run_sync(lambda lease: lease.ping(reconnect=False))


async def settings_of_the_session(pool: AsyncConnectionPool) -> None:
    """What users of aiomysql call by name."""
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        database = connection.db
        await connection.autocommit(True)
        assert connection.get_autocommit()
        await connection.autocommit(False)
        assert not connection.get_autocommit()
        await connection.select_db("mysql")
        await cursor.execute("SELECT DATABASE()")
        assert await cursor.fetchone() == ("mysql",)
        await connection.select_db(database or "")
        await connection.set_charset("latin1")
        await cursor.execute("SELECT @@character_set_client, '\u00e9'")
        assert await cursor.fetchone() == ("latin1", "\u00e9")
        assert connection.charset == "latin1"
        assert connection.encoding == "cp1252"
        assert await connection.query("SELECT 1 UNION SELECT 2") == 2
        await connection.query("SELECT 1 / 0")
        assert [code for _, code, _ in await connection.show_warnings()] == [1365]


OPERATIONS: list[tuple[Callable[[AsyncConnectionPool], Awaitable[None]], int]] = [
    (borrow, 0),
    (borrow_and_ping, 1),
    (borrow_after_an_expiry, 1),  # connects
    (borrow_a_dead_one, 2),  # closes it, connects
    (read, 0),
    (read_twice, 0),
    (two_result_sets, 0),
    (stream, 0),
    (write, 0),
    (transaction, 0),
    (rolled_back, 0),
    (dirty, 0),
    (wrote_and_forgot, 0),
    (settings_of_the_session, 1),  # the first reset after SET NAMES also asks what a new session has
    (half_read, 1),  # the end of the connection
    (run_a_function, 1),
]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("operation", "number"), OPERATIONS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_operation_takes_so_many_trips_to_a_thread_and_no_more(
    opened: Opened, trips: list[object], operation: Callable[[AsyncConnectionPool], Awaitable[None]], number: int
) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, client_flag=CLIENT.MULTI_STATEMENTS) as pool:
            await borrow(pool)
            assert len(trips) == 1, "the first connection is made in a thread"
            pool.pool._tend_at = float("inf")  # a return that looks after the idle ones, once a second, is one more
            trips.clear()
            await operation(pool)
            assert len(trips) == number

    asyncio.run(main())


def test_a_task_that_had_to_wait_takes_no_trip_for_it(opened: Opened, trips: list[object]) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            pool.pool._tend_at = float("inf")
            await asyncio.gather(*(read(pool) for _ in range(20)))
            assert len(trips) == 1, "to connect"

    asyncio.run(main())


def test_commit_is_said_when_a_statement_before_it_is_still_under_way(opened: Opened, admin: Any, table: None) -> None:
    """What it is about is known only then."""

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            connection = await pool.get_connection()
            await asyncio.gather(connection.cursor().execute("INSERT INTO trip VALUES (7)"), connection.commit())
            await connection.close()

    asyncio.run(main())
    with admin.cursor() as cursor:
        cursor.execute("SELECT id FROM trip")
        assert cursor.fetchall() == ((7,),)


def test_a_pool_that_is_enlarged_has_a_thread_for_each_connection(opened: Opened) -> None:
    """Else a statement that holds a row lock might wait behind those that wait for it."""
    all_at_once = threading.Barrier(4)

    def meet(connection: Any) -> int:
        return all_at_once.wait(10)

    async def one(connection: AsyncConnection) -> int:
        return int(await connection.run_sync(meet))

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            await borrow(pool)
            pool.pool.resize(4, 4)
            connections = [await pool.get_connection() for _ in range(4)]
            assert sorted(await asyncio.gather(*map(one, connections))) == [0, 1, 2, 3]
            for connection in connections:
                await connection.close()

    asyncio.run(main())
