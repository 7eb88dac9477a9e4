"""Reads from replicas that follow a write: by the position of the commit, on a primary with two real replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.cluster import Cluster
from tests.routing.servers import APP, Replication, with_a_late_replica
from tests.support import run_threads

pytestmark = pytest.mark.timeout(120)
THREADS = 20
READS = 1000
SEEN = "SELECT 1 FROM written WHERE id = %s"
numbers = count(1)


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with with_a_late_replica(request.config.getoption("--server")) as servers:
        yield servers


@pytest.fixture
def cluster(servers: Replication) -> Iterator[Cluster]:
    with Cluster(servers.hosts(), size=THREADS, maxsize=THREADS, timeout=20, **APP) as cluster:
        yield cluster


def late(servers: Replication) -> Cluster:
    """A cluster whose only replica is the late one."""
    return Cluster(servers.hosts()[:2], size=2, maxsize=2, timeout=20, **APP)


def write(cluster: Any, **options: Any) -> tuple[int, str | None]:
    number = next(numbers)
    with cluster.primary.get_connection(**options) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO written VALUES (%s, 1)", (number,))
    return number, connection.commit_token


def is_seen(connection: Any, number: int) -> bool:
    with connection.cursor() as cursor:
        return bool(cursor.execute(SEEN, (number,)))


def test_no_read_with_a_token_is_stale(servers: Replication, cluster: Cluster) -> None:
    served: list[int] = []

    def work(index: int) -> int:
        stale = 0
        for _ in range(READS // THREADS):
            number, token = write(cluster)
            with cluster.replica.get_connection(after=token) as connection:
                stale += not is_seen(connection, number)
                served.append(connection.port)
        return stale

    assert sum(run_threads(THREADS, work)) == 0
    ports = [server.port for server in servers.servers]
    assert served.count(ports[2]) > READS / 4, "the prompt replica serves"
    assert ports[1] not in served, "the late one does not"


def test_a_replica_that_is_late_is_left_for_the_primary_in_bounded_time(servers: Replication) -> None:
    with late(servers) as cluster:
        number, token = write(cluster)
        with cluster.replica.get_connection(after=token) as connection:
            assert connection.port == servers.servers[0].port
            assert is_seen(connection, number)
        with cluster.replica.get_connection() as connection:
            assert connection.port == servers.servers[1].port, "without a token the replica is read"


def test_the_waiting_leaves_nothing_to_clean_up(servers: Replication, cluster: Cluster) -> None:
    _, token = write(cluster)
    before = cluster.stats().reset
    for _ in range(10):
        cluster.replica.get_connection(after=token).close()
    assert cluster.stats().reset == before


def test_a_lease_that_only_reads_has_no_token(cluster: Cluster) -> None:
    with cluster.primary.get_connection() as connection:
        assert connection.commit_token is None
        is_seen(connection, 0)
        connection.commit()
        assert connection.commit_token is None
    assert connection.commit_token is None
    unused = cluster.primary.get_connection()
    unused.close()
    assert unused.commit_token is None


def test_a_token_is_that_of_the_lease_alone(cluster: Cluster) -> None:
    write(cluster)
    with cluster.primary.get_connection() as connection:
        is_seen(connection, 0)
        assert connection.commit_token is None


def test_a_commit_whose_position_no_reply_tells_is_read_from_the_primary(servers: Replication) -> None:
    with late(servers) as cluster:
        number = next(numbers)
        with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
            connection.autocommit(True)
            cursor.execute("INSERT INTO written VALUES (%s, 1) RETURNING id", (number,))
            assert connection.commit_token == "?"
        with cluster.replica.get_connection(after=connection.commit_token) as connection:
            assert is_seen(connection, number)


@pytest.mark.parametrize("token", ["", "?", "nonsense", "0-1-1'; DROP TABLE written -- ", "1" * 5000])
def test_a_token_that_is_none_is_read_from_the_primary(servers: Replication, cluster: Cluster, token: str) -> None:
    with cluster.replica.get_connection(after=token) as connection:
        assert connection.port == servers.servers[0].port


def test_a_scope_reads_its_own_writes_by_itself(servers: Replication) -> None:
    with late(servers) as cluster:
        for hands_back in (False, True):
            with cluster.primary.scope() as scope:
                number = next(numbers)
                with scope.connection().cursor() as cursor:
                    cursor.execute("INSERT INTO written VALUES (%s, 1)", (number,))
                scope.connection().commit()
                if hands_back:
                    scope.give_back(cluster.primary)
                assert is_seen(scope.connection(cluster.replica), number)
        with cluster.replica.scope() as scope:
            assert scope.connection().port == servers.servers[1].port


def test_an_asgi_request_reads_its_own_writes_by_itself(servers: Replication) -> None:
    seen: list[tuple[int, bool]] = []

    async def main(cluster: Cluster) -> None:
        primary, replica = AsyncConnectionPool(pool=cluster.primary), AsyncConnectionPool(pool=cluster.replica)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            number = next(numbers)
            connection = await current_async_connection()
            async with connection.cursor() as cursor:
                await cursor.execute("INSERT INTO written VALUES (%s, 1)", (number,))
            await connection.commit()
            reader = await current_async_connection(replica)
            async with reader.cursor() as cursor:
                seen.append((reader.port, await cursor.execute(SEEN, (number,)) == 1))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def ignore(message: Any) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": "/orders", "headers": []}
        await PoolMiddleware(application, primary)(dict(scope), ignore, ignore)  # type: ignore[arg-type]
        async with replica.get_connection() as other:
            assert other.port == servers.servers[1].port, "another request reads the replica"
        await primary.close()
        replica.end_threads()

    with late(servers) as cluster:
        asyncio.run(main(cluster))
    assert seen == [(servers.servers[0].port, True)]


def test_a_task_reads_its_own_writes(servers: Replication) -> None:
    async def visit(cluster: Cluster) -> None:
        primary, replica = AsyncConnectionPool(pool=cluster.primary), AsyncConnectionPool(pool=cluster.replica)
        number = next(numbers)
        async with primary.get_connection() as connection, connection.cursor() as cursor:
            await cursor.execute("INSERT INTO written VALUES (%s, 1)", (number,))
        options: dict[str, Any] = {"after": connection.commit_token}
        async with replica.get_connection(**options) as connection, connection.cursor() as cursor:
            assert await cursor.execute(SEEN, (number,)) == 1
        await primary.close()
        await replica.close()

    with late(servers) as cluster:
        asyncio.run(visit(cluster))
