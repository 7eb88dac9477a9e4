"""A cluster over three real Galera nodes: what visitors see when a node is killed, stopped, frozen or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from pymysqlpool.cluster import Cluster
from pymysqlpool.errors import AmbiguousPrimary
from tests.routing.servers import APP, Galera, ask, provider
from tests.routing.traffic import POOL, Traffic, site_traffic, traffic
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
    assert seen.failed_late == 0, seen.told()
    assert not nodes.lost(reader, seen.written), "an acknowledged write is lost"
    assert not nodes.twice(reader), "a statement was sent twice"
    assert seen.logins_since <= 2 * POOL, seen.told()
    assert seen.stale == 0, seen.told()


def test_a_killed_node_costs_what_was_in_flight(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen:
        nodes.servers[0].kill()
        seen.go_on(300)
    check(seen, nodes, 1, failed=POOL)
    nodes.rejoin(0)
    nodes.wait_for(3)
    assert not nodes.lost(0, seen.written), "the node has what it missed"


def test_a_node_that_stops_in_order_costs_what_was_in_flight(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen:
        nodes.end(0)
        seen.go_on(300)
    nodes.rejoin(0)
    nodes.wait_for(3)
    check(seen, nodes, 1, failed=POOL)


def test_a_node_without_quorum_is_left_at_once(nodes: Galera) -> None:
    with traffic(nodes.hosts(), numbers, **APP) as seen, site_traffic(nodes.hosts(), numbers, threads=4, **APP) as site:
        nodes.isolate(0)
        seen.go_on(300)
        site.go_on(100)
    check(seen, nodes, 1, failed=POOL)
    check(site, nodes, 1, failed=POOL)
    assert site.is_told_to_retry, site.told()
    nodes.isolate(0, False)
    nodes.wait_for(3)


def port_of_the_primary(cluster: Cluster) -> int:
    with cluster.primary.get_connection() as connection:
        return int(connection.port)


def failback(nodes: Galera) -> Traffic:
    with traffic(nodes.hosts(), numbers, failback_after=1.0, **APP) as seen:
        nodes.servers[0].kill()
        seen.go_on(100)
        nodes.rejoin(0)
        nodes.wait_for(3)
        with Cluster(nodes.hosts()[:1], size=1, **APP) as alone:
            assert alone.primary.get_connection(timeout=10).port == nodes.servers[0].port
        seen.go_on(100)
        wait_until(lambda: port_of_the_primary(seen.lender.cluster) == nodes.servers[0].port, "writes are back", 30)
    assert not nodes.lost(0, seen.written)
    return seen


def test_a_node_that_came_back_takes_the_writes_after_a_while(nodes: Galera) -> None:
    for _ in range(3):
        before = nodes.changes()
        seen = failback(nodes)
        if nodes.changes() == before + 2:
            break  # else the nodes of a busy machine have lost each other in between, and refused writes
    assert sum(seen.failed.values()) <= POOL, seen.told()


def test_a_transaction_goes_on_where_it_began_when_the_writes_go_back(nodes: Galera) -> None:
    first = nodes.servers[0]
    name = f"{first.host}:{first.port}"
    one, other = next(numbers), next(numbers)
    with Cluster(nodes.hosts(), size=2, maxsize=2, timeout=10, failback_after=0.2, **APP) as cluster:
        cluster.drain(name)
        with cluster.primary.get_connection() as held, held.cursor() as cursor:
            port = held.port
            assert port != first.port
            cursor.execute("INSERT INTO written VALUES (%s, 1)", (one,))
            cluster.undrain(name)
            wait_until(lambda: port_of_the_primary(cluster) == first.port, "writes are back", 30)
            cursor.execute("INSERT INTO written VALUES (%s, @@port)", (other,))
            assert held.port == port
        assert port_of_the_primary(cluster) == first.port
        with cluster.primary.get_connection(after="?") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT server FROM written WHERE id IN (%s, %s) ORDER BY id", (one, other))
            assert cursor.fetchall() == ((1,), (port,)), "both, and on the node where the transaction began"


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


# -- what the nodes say of each other ------------------------------------------------------------------------


def known(cluster: Cluster) -> dict[int, str]:
    """The states of the hosts that are known, by port."""
    return {int(name.rpartition(":")[2]): state for name, state, _ in cluster.endpoints()}


def test_one_node_is_enough_to_find_the_others_and_those_that_leave_are_left(nodes: Galera) -> None:
    ports = [server.port for server in nodes.servers]
    url = f"mysql://app:app@127.0.0.1:{ports[0]}/test?topology=galera&check_interval=0.2"
    with Cluster.from_url(url, size=2, timeout=10, ssl_disabled=True) as cluster:
        assert port_of_the_primary(cluster) == ports[0]
        wait_until(lambda: list(known(cluster).values()) == ["up, takes writes"] * 3, "the others are found", 10)
        assert known(cluster).keys() == set(ports)
        nodes.end(2)
        wait_until(lambda: known(cluster).keys() == set(ports[:2]), "the node that has left is left", 20)
        with cluster.replica.get_connection() as reader:
            assert reader.port == ports[1]
        nodes.rejoin(2)
        nodes.wait_for(3)
        wait_until(lambda: known(cluster).get(ports[2]) == "up, takes writes", "it is back", 20)
        assert len(cluster.lending.pools) == 3, "and has its old place"
    with Cluster(nodes.hosts()[:1], size=2, timeout=10, **APP) as alone:
        assert port_of_the_primary(alone) == ports[0]
        assert known(alone).keys() == {ports[0]}, "one host may be a proxy"


def test_a_donor_is_left_alone_while_there_are_others(nodes: Galera) -> None:
    ports = [server.port for server in nodes.servers]
    with Cluster(nodes.hosts(), size=2, timeout=10, check_interval=0.2, failback_after=1.0, **APP) as cluster:
        assert port_of_the_primary(cluster) == ports[0]
        ask(nodes.servers[0], "SET GLOBAL wsrep_desync = ON")
        try:
            wait_until(lambda: port_of_the_primary(cluster) == ports[1], "another node takes the writes", 10)
            with cluster.replica.get_connection() as reader:
                assert reader.port == ports[2]
            ask(nodes.servers[1], "SET GLOBAL wsrep_desync = ON")
            ask(nodes.servers[2], "SET GLOBAL wsrep_desync = ON")
            assert port_of_the_primary(cluster) in ports, "where all are donors, one serves"
        finally:
            for server in nodes.servers:
                ask(server, "SET GLOBAL wsrep_desync = OFF")
        wait_until(lambda: port_of_the_primary(cluster) == ports[0], "it takes the writes again", 20)


def test_a_part_of_the_cluster_that_was_made_a_cluster_of_its_own_is_not_written_to(nodes: Galera) -> None:
    with Cluster(nodes.hosts(), size=2, timeout=10, check_interval=0.2, **APP) as cluster:
        assert port_of_the_primary(cluster) == nodes.servers[0].port
        nodes.isolate(0)
        wait_until(lambda: known(cluster)[nodes.servers[0].port] == "down", "it has no quorum", 20)
        port_of_the_primary(cluster)
        ask(nodes.servers[0], "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")  # by an operator in a hurry
        wait_until(lambda: is_refused(cluster), "two say that they are the cluster", 20)
    nodes.servers[0].kill()
    # Its last view was a cluster of its own, which it may take up again before it has found the others.
    (nodes.servers[0].datadir / "gvwstate.dat").unlink(missing_ok=True)
    nodes.rejoin(0)
    nodes.wait_for(3)


def is_refused(cluster: Cluster) -> bool:
    try:
        cluster.primary.get_connection(timeout=10).close()
    except AmbiguousPrimary:
        return True
    return False
