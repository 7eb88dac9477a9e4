"""A cluster under asyncio, and as the pool of an ASGI application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pymysqlpool import PoolUnavailable
from pymysqlpool._pool.checkout_request import Work
from pymysqlpool._routing.lending import Borrow
from pymysqlpool._routing.queue import Ticket
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware
from pymysqlpool.health import HealthCheck
from tests.routing.test_cluster import Trio, make_cluster, servers, trio

__all__ = ["make_cluster", "servers", "trio"]


async def port_of(pool: AsyncConnectionPool, **options: Any) -> int:
    async with pool.get_connection(**options) as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT @@port")
        return int((await cursor.fetchone())[0])


def test_tasks_borrow_from_the_host_that_fits(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=2)

    async def main() -> None:
        primary, replica = AsyncConnectionPool(pool=cluster.primary), AsyncConnectionPool(pool=cluster.replica)
        ports = [server.port for server in trio.servers]
        assert set(await asyncio.gather(*(port_of(primary) for _ in range(20)))) == {ports[0]}
        assert set(await asyncio.gather(*(port_of(replica) for _ in range(20)))) <= set(ports[1:])
        trio.role(0, writable=False)
        trio.role(2, writable=True)
        cluster.drain()
        assert await port_of(primary) == ports[2]
        assert cluster.stats().in_use == 0
        replica.end_threads()
        await primary.close()

    asyncio.run(main())


def test_a_task_that_leaves_takes_no_place_with_it(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)

    async def main() -> None:
        pool = AsyncConnectionPool(pool=cluster.primary)
        held = await pool.get_connection()
        waiters = [asyncio.ensure_future(port_of(pool)) for _ in range(5)]
        await asyncio.sleep(0)
        for waiter in waiters[:4]:
            waiter.cancel()
        await held.close()
        assert await asyncio.wait_for(waiters[4], 5) == trio.servers[0].port
        assert cluster.stats().in_use == 0
        await pool.close()

    asyncio.run(main())


def test_a_task_that_leaves_before_a_misfit_is_returned_loses_no_connection(trio: Trio, make_cluster: Any) -> None:
    """Its last step may never be carried out; driven by hand, since a task leaves at that instant by chance only."""
    cluster = make_cluster(size=1, maxsize=1)
    with cluster.primary.get_connection():
        pass
    trio.role(0, writable=False)
    cluster.lending.pools[0].drain()
    steps = cluster.primary.steps(Ticket(), 3, 0.1, False, 5.0, None)
    step = next(steps)
    assert isinstance(step, Borrow)
    step = steps.send(cluster.lending.pools[step.endpoint].get_connection(timeout=5))
    assert isinstance(step, Work)  # the session says that its server is a replica now
    steps.close()
    assert cluster.stats().in_use == 0


def test_a_bounded_wait_for_a_primary_that_never_comes(trio: Trio, make_cluster: Any) -> None:
    trio.role(0, writable=False)
    cluster = make_cluster()

    async def main() -> None:
        pool = AsyncConnectionPool(pool=cluster.primary)
        with pytest.raises(PoolUnavailable, match="no primary lent one"):
            await pool.get_connection(timeout=0.5)
        await pool.close()

    asyncio.run(main())


def test_the_middleware_and_the_health_check_take_a_target(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    PoolMiddleware(lambda *_: None, cluster.primary)  # type: ignore[arg-type,return-value]
    assert HealthCheck(cluster.primary)().ready
    trio.role(0, writable=False)
    cluster.drain()
    fresh = HealthCheck(cluster.primary, timeout=0.3)()
    assert not fresh.ready
    assert "no host lends" in fresh.reason
