"""SQLAlchemy's asyncio engine on this pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pymysql.constants import CLIENT
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.sqlalchemy_aio import create_async_engine

from .test_sqlalchemy import Thing

MakePool = Callable[..., ConnectionPool]


@pytest.fixture
def run(make_pool: MakePool, admin: Any) -> Iterator[Callable[..., Any]]:
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sqlalchemy_thing")
        cursor.execute("CREATE TABLE sqlalchemy_thing (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))")

        def run(work: Callable[[AsyncEngine, ConnectionPool], Coroutine[Any, Any, None]], **options: Any) -> None:
            pool = make_pool(**{"size": 1, "maxsize": 2, "client_flag": CLIENT.FOUND_ROWS, **options})

            async def main() -> None:
                engine = create_async_engine(pool)
                try:
                    await work(engine, pool)
                finally:
                    await engine.dispose()
                assert pool.stats().in_use == 0

            asyncio.run(main())

        yield run
        cursor.execute("DROP TABLE sqlalchemy_thing")


def test_core_orm_and_streams(run: Callable[..., None]) -> None:
    async def work(engine: AsyncEngine, pool: ConnectionPool) -> None:
        connected = []
        event.listen(engine.sync_engine, "connect", lambda connection, record: connected.append(record))
        async with AsyncSession(engine) as session:
            session.add_all([Thing(name=str(number)) for number in range(20)])
            await session.commit()
            thing = await session.get_one(Thing, 1)
            thing.name = "changed"
            await session.commit()
        async with engine.connect() as connection:
            result = await connection.stream(sa.select(Thing.name).order_by(Thing.id))
            assert [row.name async for row in result][:2] == ["changed", "1"]
            await connection.execute(sa.text("SET @x = 1"))
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT @x"))).scalar() is None
        assert len(connected) == pool.stats().created == 1

    run(work)


def test_many_tasks_share_the_bound_with_others(run: Callable[..., None]) -> None:
    async def work(engine: AsyncEngine, pool: ConnectionPool) -> None:
        direct = AsyncConnectionPool(pool=pool)

        async def by_engine() -> None:
            async with engine.begin() as connection:
                await connection.execute(sa.insert(Thing), {"name": "a"})

        async def by_hand() -> None:
            async with direct.get_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT 1")

        await asyncio.gather(*(by_engine() for _ in range(10)), *(by_hand() for _ in range(10)))
        direct.end_threads()
        assert pool.stats().total <= 2

    run(work, timeout=10)


def test_a_full_pool_and_a_lost_connection(run: Callable[..., None], admin: Any) -> None:
    async def work(engine: AsyncEngine, pool: ConnectionPool) -> None:
        async with engine.connect() as first, engine.connect():
            with pytest.raises(sa.exc.TimeoutError):
                await engine.connect()
            admin.kill((await first.execute(sa.text("SELECT CONNECTION_ID()"))).scalar())
            with pytest.raises(sa.exc.DBAPIError) as caught:
                await first.execute(sa.text("SELECT SLEEP(1)"))
            assert caught.value.connection_invalidated
            await first.rollback()
            assert (await first.execute(sa.text("SELECT 1"))).scalar() == 1

    run(work, timeout=0.2)


def test_a_task_that_is_cancelled_gives_its_connection_back(run: Callable[..., None]) -> None:
    async def work(engine: AsyncEngine, pool: ConnectionPool) -> None:
        async def slow() -> None:
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT SLEEP(20)"))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow(), 0.3)
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar() == 1

    run(work)
