"""What else may befall the hosts of a cluster: a name that points elsewhere, a host that comes and goes, all of them
down, a primary that is demoted while nothing uses it, a cluster that is closed in the middle of a failover, a fork."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import Any

import pymysql
import pytest

from pymysqlpool import PoolClosed
from pymysqlpool.cluster import Cluster
from tests.proxy import Proxy
from tests.routing.test_cluster import APP, Trio, make_cluster, port_of, servers, trio
from tests.support import freeze, run_threads, wait_until

__all__ = ["make_cluster", "servers", "trio"]

READERS = 4


@contextmanager
def proxies(trio: Trio) -> Iterator[list[Proxy]]:
    """One in front of each server, so that a host can be down without being killed."""
    with ExitStack() as stack:
        yield [stack.enter_context(Proxy((server.host, server.port))) for server in trio.servers]


def hosts_of(before: list[Proxy]) -> list[Any]:
    return [{"host": "127.0.0.1", "port": proxy.port} for proxy in before]


def goes_down(proxy: Proxy) -> bool:
    """Call it again for connections that were being made meanwhile."""
    proxy.refusing = True
    proxy.cut()
    return True


def refused_write(cluster: Cluster) -> None:
    """The first write after a switchover: the news of it."""
    with pytest.raises(pymysql.err.MySQLError, match="read-only"), cluster.primary.get_connection() as connection:
        connection.cursor().execute("CREATE TABLE nowhere (id INT)")


def test_a_name_that_points_to_another_server_after_a_failover_is_followed(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the endpoint of a managed database. The old address is not remembered by any new connection."""
    points_to = [trio.servers[0]]
    ask = socket.getaddrinfo

    def resolve(host: Any, *given: Any, **options: Any) -> Any:
        if host != "primary.example":
            return ask(host, *given, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (points_to[0].host, points_to[0].port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def server_of(cluster: Cluster) -> int:
        with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@port")
            return int(cursor.fetchone()[0])

    with Cluster(["primary.example"], size=3, maxsize=3, timeout=10, **APP) as cluster:
        assert server_of(cluster) == trio.servers[0].port
        trio.role(0, writable=False)
        trio.role(1, writable=True)
        refused_write(cluster)
        waits = threading.Thread(target=lambda: found.append(server_of(cluster)))
        found: list[int] = []
        waits.start()
        wait_until(lambda: len(cluster.lending._queues["primary"]), "a caller waits for the name to change")
        points_to[0] = trio.servers[1]
        waits.join(20)
        assert found == [trio.servers[1].port]
        assert run_threads(3, lambda _: server_of(cluster)) == [trio.servers[1].port] * 3


def test_a_replica_that_comes_and_goes_costs_its_readers_nothing_and_is_not_besieged(trio: Trio) -> None:
    ends = threading.Event()
    failed: list[BaseException] = []
    served = [0] * READERS

    with (
        proxies(trio) as before,
        Cluster(hosts_of(before), size=READERS, maxsize=READERS, timeout=10, read_timeout=10, **APP) as cluster,
    ):

        def read(index: int) -> None:
            while not ends.is_set():
                try:
                    cluster.replica.get_connection().close()
                except pymysql.err.MySQLError as error:
                    failed.append(error)
                served[index] += 1

        threads = [threading.Thread(target=read, args=(index,)) for index in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                goes_down(before[1])
                refused = before[1].accepted
                wait_until(
                    lambda refused=refused: goes_down(before[1]) and before[1].accepted > refused,
                    "it is asked, and found down",
                )
                before[1].refusing = False
                so_far = list(served)
                wait_until(lambda: cluster.endpoints()[1][1] == "up, read-only", "it is used again")
                wait_until(
                    lambda so_far=so_far: all(now > then for now, then in zip(served, so_far, strict=True)),
                    "all readers go on",
                )
        finally:
            ends.set()
            for thread in threads:
                thread.join(20)
    assert not failed
    took = before[1].accept_times[-1] - before[1].accept_times[0]
    assert before[1].accepted <= (10 + 1) * 2 * READERS + took / 0.04, "one asks, each reader tries at most once"


def test_all_hosts_go_down_and_the_first_one_that_is_back_is_used(trio: Trio) -> None:
    with (
        proxies(trio) as before,
        Cluster(hosts_of(before), size=2, maxsize=2, timeout=20, read_timeout=10, **APP) as cluster,
    ):
        assert port_of(cluster.primary) == trio.servers[0].port
        assert port_of(cluster.replica) in [server.port for server in trio.servers[1:]]
        for proxy in before:
            goes_down(proxy)
        lent: dict[str, int] = {}

        def borrow(target: Any) -> None:
            lent[target] = port_of(cluster.target(target))

        threads = [threading.Thread(target=borrow, args=(target,)) for target in ("primary", "replica", "any")]
        for thread in threads:
            thread.start()
        wait_until(lambda: [state for _, state, _ in cluster.endpoints()] == ["down"] * 3, "all are known to be down")
        before[2].refusing = False
        for thread in threads[1:]:
            thread.join(20)
        assert lent == {"replica": trio.servers[2].port, "any": trio.servers[2].port}, "no replica becomes the primary"
        before[0].refusing = False
        threads[0].join(20)
        assert lent["primary"] == trio.servers[0].port


def test_the_idle_sessions_of_a_demoted_primary_are_used_for_no_write(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    held = [cluster.primary.get_connection() for _ in range(4)]
    for connection in held:
        connection.close()
    assert cluster.endpoints()[0][2].idle == 4
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    refused_write(cluster)
    held = [cluster.primary.get_connection() for _ in range(4)]
    assert [connection.port for connection in held] == [trio.servers[1].port] * 4, "one failed, and not each of four"
    for connection in held:
        connection.close()
    assert cluster.endpoints()[0][2].idle <= 1, "the session that has asked it for its role"


def test_the_monitor_moves_writes_from_a_demoted_primary_before_any_is_refused(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=0.1)
    held = [cluster.primary.get_connection() for _ in range(4)]
    for connection in held:
        connection.close()
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    wait_until(lambda: cluster.endpoints()[1][1] == "up, takes writes", "the promotion is seen")
    wait_until(lambda: cluster.endpoints()[0][1] == "up, read-only", "the demotion is seen")
    with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE test.moved (id INT)")
        assert connection.port == trio.servers[1].port


def test_a_cluster_that_is_closed_in_the_middle_of_a_failover_keeps_no_caller_waiting(
    trio: Trio, make_cluster: Any
) -> None:
    """One caller asks a host that says nothing, the others wait for its answer."""
    cluster = make_cluster(size=2, maxsize=2, timeout=60, read_timeout=60)
    assert port_of(cluster.primary) == trio.servers[0].port
    with ExitStack() as stack:
        for server in trio.servers:
            assert server.pid is not None
            freeze(server.pid)
            stack.callback(os.kill, server.pid, signal.SIGCONT)
        cluster.lending.refused_work(0)  # so the primary is lost
        ended: list[type[BaseException]] = []

        def borrow() -> None:
            try:
                cluster.primary.get_connection()
            except pymysql.err.MySQLError as error:
                ended.append(type(error))

        threads = [threading.Thread(target=borrow) for _ in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(cluster.lending._queues["primary"]) == 6, "all wait")
        began = monotonic()
        cluster.close(timeout=0)
        for thread in threads:
            thread.join(30)
        assert ended == [PoolClosed] * 6
        assert monotonic() - began < 20, "none waits for its 60 seconds"


def test_two_threads_that_are_the_first_of_a_forked_child_use_the_same_books(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    port_of(cluster.primary)
    lending = cluster.lending
    together = threading.Barrier(2)
    new_topology = lending._new_topology
    made: list[Any] = []

    def slow(endpoints: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            together.wait(1)  # until the other one has come as far, which it does not
        made.append(topology := new_topology(endpoints))
        return topology

    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            lending._new_topology = slow
            ports = run_threads(2, lambda _: port_of(cluster.primary))
            os._exit(0 if len(made) == 1 and ports == [trio.servers[0].port] * 2 else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
