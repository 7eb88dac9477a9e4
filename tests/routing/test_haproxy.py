"""One pool behind a real HAProxy, with role="primary": what visitors see of a switchover and of a killed primary."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from pymysqlpool import ConnectionPool
from tests.routing.haproxy import HOST, haproxy, program
from tests.routing.servers import APP, Replication
from tests.routing.traffic import PATIENCE, POOL, Traffic, begun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(program() is None, reason="needs HAProxy (Debian: apt-get install haproxy)"),
]
numbers = count()


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with ExitStack() as stack:
        yield Replication(stack, request.config.getoption("--server"))


@contextmanager
def traffic(port: int) -> Iterator[Traffic]:
    with (
        ConnectionPool(host=HOST, port=port, role="primary", **PATIENCE, **APP) as pool,
        begun(Traffic(pool, numbers, logins=lambda: pool.stats().created)) as seen,
    ):
        yield seen


def check(seen: Traffic, servers: Replication, primary: int) -> None:
    assert sum(seen.failed.values()) <= POOL, seen.told()
    assert seen.failed_late == 0, seen.told()
    assert seen.logins_since <= 2 * POOL, seen.told()
    assert not servers.lost(primary, seen.written), "an acknowledged write is lost"
    assert not servers.twice(primary), "a statement was sent twice"
    assert seen.stale == 0, seen.told()


def test_a_planned_switchover_costs_what_was_in_flight_at_most(servers: Replication) -> None:
    with haproxy(servers.servers[:2]) as port, traffic(port) as seen:
        servers.switch(0, 1)
        seen.go_on(300)
    check(seen, servers, 1)
    servers.switch(1, 0)


def test_a_killed_primary_costs_what_was_in_flight_once_a_replica_is_promoted(servers: Replication) -> None:
    with haproxy(servers.servers[:2]) as port, traffic(port) as seen:
        servers.servers[0].kill()
        threading.Event().wait(2.0)  # what an operator's tool takes
        servers.promote(1)
        seen.go_on(300)
    check(seen, servers, 1)
