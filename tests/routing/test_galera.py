"""A cluster over three real Galera nodes: what visitors see when a node is killed, stopped, frozen or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from pymysqlpool.cluster import Cluster
from tests.routing.servers import APP, Galera, provider
from tests.routing.traffic import POOL, Traffic, traffic
from tests.support import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(provider() is None, reason="needs Galera's library (Debian: apt-get install galera-4)"),
]
numbers = count()


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest) -> Iterator[Galera]:
    with ExitStack() as stack:
        yield Galera(stack, request.config.getoption("--server"))


def check(seen: Traffic, nodes: Galera, reader: int, *, failed: int) -> None:
    assert sum(seen.failed.values()) <= failed, seen.told()
    assert not seen.written - set(nodes.written(reader)), "an acknowledged write is lost"
    assert seen.logins <= 2 * POOL + len(nodes.servers), seen.told()  # and one to ask each node what it is
    assert seen.stale == 0, seen.told()


def test_a_killed_node_costs_what_was_in_flight(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen:
        nodes.servers[0].kill()
        seen.go_on(300)
    check(seen, nodes, 1, failed=POOL)
    nodes.rejoin(0)
    nodes.wait_for(3)
    assert not seen.written - set(nodes.written(0)), "the node has what it missed"


def test_a_node_that_stops_in_order_costs_what_was_in_flight(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen:
        nodes.end(0)
        seen.go_on(300)
    nodes.rejoin(0)
    nodes.wait_for(3)
    check(seen, nodes, 1, failed=POOL)


def test_a_node_without_quorum_is_left_at_once(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen:
        nodes.isolate(0)
        seen.go_on(300)
    check(seen, nodes, 1, failed=POOL)
    nodes.isolate(0, False)
    nodes.wait_for(3)


def port_of_the_primary(cluster: Cluster) -> int:
    with cluster.primary.get_connection() as connection:
        return int(connection.port)


def test_a_node_that_came_back_takes_the_writes_after_a_while(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, failback_after=1.0, **APP) as seen:
        nodes.servers[0].kill()
        seen.go_on(100)
        nodes.rejoin(0)
        nodes.wait_for(3)
        with Cluster(nodes.hosts()[:1], size=1, **APP) as alone:
            assert alone.primary.get_connection(timeout=10).port == nodes.servers[0].port
        seen.go_on(100)
        wait_until(lambda: port_of_the_primary(seen.cluster) == nodes.servers[0].port, "writes are back", 30)
    assert sum(seen.failed.values()) <= POOL, seen.told()
    assert not seen.written - set(nodes.written(0))


def test_another_node_shows_what_was_just_written(nodes: Galera) -> None:
    with Cluster(nodes.hosts(), size=4, maxsize=4, timeout=10, **APP) as cluster:
        for _ in range(100):
            number = next(numbers)
            with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO written VALUES (%s, 1)", (number,))
            assert connection.commit_token == "?"
            with cluster.replica.get_connection(after="?") as reader, reader.cursor() as cursor:
                assert reader.port != nodes.servers[0].port
                assert cursor.execute("SELECT 1 FROM written WHERE id = %s", (number,)) == 1
