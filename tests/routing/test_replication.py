"""A cluster over a real primary with two replicas: switchover, failover, a replica that dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from pymysqlpool.cluster import Cluster
from tests.routing.servers import APP, Replication
from tests.routing.traffic import POOL, Traffic, site_traffic, traffic
from tests.support import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
numbers = count()


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with ExitStack() as stack:
        yield Replication(stack, request.config.getoption("--server"))


def check(seen: Traffic, servers: Replication, primary: int, *, failed: int) -> None:
    assert sum(seen.failed.values()) <= failed, seen.told()
    assert seen.failed_late == 0, seen.told()
    assert not servers.lost(primary, seen.written), "an acknowledged write is lost"
    assert not servers.twice(primary), "a statement was sent twice"
    assert seen.logins_since <= 2 * POOL, seen.told()
    assert seen.stale == 0, seen.told()


def test_a_planned_switchover_costs_what_was_in_flight_at_most(servers: Replication) -> None:
    hosts = servers.hosts()
    with traffic(hosts, numbers, **APP) as seen, site_traffic(hosts, numbers, threads=4, **APP) as site:
        servers.switch(0, 1)
        seen.go_on(300)
        site.go_on(100)
    check(seen, servers, 1, failed=POOL)
    check(site, servers, 1, failed=POOL)
    assert site.is_told_to_retry, site.told()
    servers.switch(1, 0)


def test_a_planned_switchover_after_a_drain_costs_nothing(servers: Replication) -> None:
    with traffic(servers.hosts(), numbers, **APP) as seen:
        cluster: Cluster = seen.lender.cluster
        name, _, _ = cluster.endpoints()[0]
        cluster.drain(name)
        wait_until(lambda: cluster.endpoints()[0][2].in_use == 0, "what was lent has come back")
        servers.switch(0, 1)
        cluster.undrain(name)
        seen.go_on(200)
    check(seen, servers, 1, failed=0)
    servers.switch(1, 0)


def test_a_killed_replica_costs_writers_nothing(servers: Replication) -> None:
    with traffic(servers.hosts(), numbers, **APP) as seen:
        servers.servers[2].kill()
        for _ in range(50):
            with seen.lender.cluster.replica.get_connection() as connection:
                assert connection.port == servers.servers[1].port
        seen.go_on(200)
    servers.servers[2].start()
    servers.follow(2, 0)
    check(seen, servers, 0, failed=0)


def test_a_killed_primary_costs_what_was_in_flight_once_a_replica_is_promoted(servers: Replication) -> None:
    with traffic(servers.hosts(), numbers, **APP) as seen:
        servers.servers[0].kill()
        threading.Event().wait(2.0)  # what an operator's tool takes
        servers.promote(1)
        seen.go_on(300)
    check(seen, servers, 1, failed=POOL)
