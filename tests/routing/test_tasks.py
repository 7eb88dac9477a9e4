"""A cluster under asyncio, and as the pool of an ASGI application."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from typing import Any

import pytest

from pymysqlpool import PoolUnavailable
from pymysqlpool._pool.checkout_request import Work
from pymysqlpool._routing.lending import Borrow
from pymysqlpool._routing.queue import Ticket
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware
from pymysqlpool.health import HealthCheck
from tests.routing.test_cluster import Trio, make_cluster, servers, trio
from tests.support import wait_until

__all__ = ["make_cluster", "servers", "trio"]

STEPS = 30  # of the event loop, at the most, after which a borrow is cancelled


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


def test_the_lease_of_a_task_that_leaves_stays_with_the_thread_that_uses_it(
    trio: Trio, make_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread asks over the lease's session; to close it meanwhile would end a session in another thread's hands."""
    cluster = make_cluster(size=1, maxsize=1)
    entered, ends = threading.Event(), threading.Event()
    seen: list[bool] = []

    def slow(lease: Any, *_: Any) -> bool:
        entered.set()
        ends.wait(20)
        seen.append(lease.is_returned)
        with lease.cursor() as cursor:
            seen.append(cursor.execute("SELECT 1") == 1)
        return True

    monkeypatch.setattr("pymysqlpool._routing.lending.has_commit", slow)

    async def main() -> None:
        pool = AsyncConnectionPool(pool=cluster.replica)
        task = asyncio.ensure_future(port_of(pool, after="0-1-1"))
        await asyncio.to_thread(entered.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert cluster.stats().in_use == 1, "it is the thread's"
        ends.set()
        await asyncio.to_thread(wait_until, lambda: cluster.stats().in_use == 0, "the thread returns it")
        assert seen == [False, True]
        assert await port_of(pool) in [server.port for server in trio.servers[1:]]
        await pool.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["primary", "replica", "a commit that a replica has not"])
def test_a_borrow_that_is_cancelled_at_any_await_leaves_nothing_behind(
    trio: Trio, make_cluster: Any, kind: str
) -> None:
    cluster = make_cluster(size=1, maxsize=1)
    options = {"after": "0-1-999999"} if "commit" in kind else {}

    async def main() -> None:
        pool = AsyncConnectionPool(pool=cluster.primary if kind == "primary" else cluster.replica)
        for turns in count():
            cluster.drain()  # so that it has to connect, and, at a first time, to ask
            task = asyncio.ensure_future(port_of(pool, **options))
            for _ in range(turns):
                await asyncio.sleep(0.006 if turns > STEPS / 2 else 0)
            if task.done() or turns > STEPS:
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: cluster.stats().in_use == 0, "nothing is lent")
        await task
        assert turns > 2, "it was cancelled before"
        assert cluster.stats().waiting == 0
        assert await asyncio.gather(*(port_of(pool) for _ in range(10)))
        await pool.close()

    asyncio.run(main())


def at_once(pool: AsyncConnectionPool) -> AsyncConnection | None:
    """A connection that needs no turn of the event loop."""
    borrow = pool.get_connection().__await__()
    try:
        next(borrow)
    except StopIteration as end:
        served: AsyncConnection = end.value
        return served
    borrow.close()
    return None


def test_a_task_borrows_from_known_hosts_without_a_wait(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=2, maxsize=2)

    async def served(pool: AsyncConnectionPool) -> AsyncConnection:
        for _ in range(50):  # what is known of the hosts holds for a quarter of a second
            await port_of(pool)
            if (connection := at_once(pool)) is not None:
                return connection
        raise AssertionError("each borrow waits")

    async def main() -> None:
        for target, ports in ((cluster.primary, trio.hosts()[:1]), (cluster.replica, trio.hosts()[1:])):
            pool = AsyncConnectionPool(pool=target)
            connection = await served(pool)
            assert connection.port in [host["port"] for host in ports]
            await connection.close()
            pool.end_threads()
        assert cluster.stats().in_use == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "options", [{"on_checkout": lambda _: None}, {"on_discard": lambda _: None}, {"pre_ping": True}]
)
def test_a_task_borrows_where_hooks_are_called(trio: Trio, make_cluster: Any, options: dict[str, Any]) -> None:
    cluster = make_cluster(size=2, maxsize=2, **options)

    async def main() -> None:
        pool = AsyncConnectionPool(pool=cluster.primary)
        for _ in range(10):
            assert await port_of(pool) == trio.servers[0].port
        assert cluster.stats().created <= 4, "one, and those that asked the hosts"
        await pool.close()

    asyncio.run(main())


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
