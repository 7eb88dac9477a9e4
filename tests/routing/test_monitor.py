"""The monitor: a host that stops answering, and a role that changes while nothing asks; what the replicas' lag does."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest

from pymysqlpool import PoolUnavailable, SettingsError
from pymysqlpool._routing import monitor
from pymysqlpool._routing.asking import Asks
from pymysqlpool._routing.endpoints import Answer
from pymysqlpool._routing.monitor import Monitor
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from tests.routing.servers import APP, Replication, ask
from tests.routing.test_cluster import Trio, make_cluster, port_of, servers, trio
from tests.support import freeze, run_threads, wait_until

__all__ = ["make_cluster", "servers", "trio"]

INTERVAL = 0.5  # seconds
SLACK = 1.0  # seconds, on a loaded machine


@contextmanager
def frozen(server: DevServer) -> Iterator[None]:
    assert server.pid is not None
    freeze(server.pid)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def monitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pymysqlpool monitor")]


def state_of(cluster: Cluster, index: int) -> str:
    return cluster.endpoints()[index][1]


def test_statements_on_a_frozen_host_end_within_two_intervals(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=INTERVAL)  # and no read_timeout
    ended: list[float] = []
    entered = threading.Barrier(5)

    def work(index: int) -> None:
        with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            entered.wait(10)
            entered.wait(10)
            try:
                while True:
                    cursor.execute("SELECT 1")
            except pymysql.err.OperationalError:
                ended.append(monotonic())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    with frozen(trio.servers[0]):
        began = monotonic()
        entered.wait(10)
        for thread in threads:
            thread.join(20)
        assert len(ended) == 4
        assert max(ended) - began <= 2 * INTERVAL + SLACK
        assert state_of(cluster, 0) == "down"
        assert port_of(cluster.replica) in [server.port for server in trio.servers[1:]]
    assert port_of(cluster.primary) == trio.servers[0].port, "it is used again when it answers"


def test_a_switchover_is_noticed_by_a_cluster_that_is_not_in_use(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=INTERVAL)
    assert port_of(cluster.primary) == trio.servers[0].port
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    wait_until(lambda: state_of(cluster, 1) == "up, takes writes", "the new primary is noticed")
    wait_until(lambda: state_of(cluster, 0) == "up, read-only", "the old one too")
    with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE test.at_once (id INT)")
        assert connection.port == trio.servers[1].port, "and no statement fails"


def test_the_threads_begin_with_the_first_borrow_and_end_with_the_cluster(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=INTERVAL)
    assert not monitors()
    port_of(cluster.primary)
    assert len(monitors()) == 3
    cluster.close()
    wait_until(lambda: not monitors(), "they have ended")


def test_the_threads_end_with_a_cluster_that_was_dropped(trio: Trio) -> None:
    cluster = Cluster(trio.hosts(), size=1, check_interval=0.1, **APP)
    port_of(cluster.primary)
    assert monitors()
    del cluster
    gc.collect()
    wait_until(lambda: not monitors(), "they have ended")


def test_a_forked_child_has_monitors_of_its_own_and_leaves_those_of_its_parent(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=0.1)
    with cluster.primary.get_connection() as connection, connection.cursor() as cursor:
        child = os.fork()
        if child == 0:
            try:
                port_of(cluster.primary)
                fresh = len(monitors())
                cluster.close()
                os._exit(0 if fresh == 3 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cursor.execute("SELECT 1") == 1
    assert len(monitors()) == 3


def test_a_monitor_whose_session_is_killed_asks_over_another_one(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(check_interval=1.0)  # long enough for a check on a loaded machine
    port_of(cluster.primary)

    def sessions() -> list[set[int]]:
        sessions = "SELECT id FROM information_schema.processlist WHERE user = 'app'"
        return [{row["id"] for row in ask(server, sessions)} for server in trio.servers]

    wait_until(lambda: len(sessions()[0]) == 2, "the monitor's, beside the pool's")
    killed = sessions()
    for server, its in zip(trio.servers, killed, strict=True):
        for session in its:
            ask(server, f"KILL {session}")
    wait_until(lambda: sessions()[0] - killed[0], "it is asked again")
    assert state_of(cluster, 0) == "up, takes writes"
    before = cluster.stats().created
    assert run_threads(2, lambda index: port_of(cluster.primary)) == [trio.servers[0].port] * 2
    assert cluster.stats().created <= before + 2


# -- lag ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def followers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with ExitStack() as stack:
        yield Replication(stack, request.config.getoption("--server"))


numbers = count(1_000_000)


def test_a_replica_that_is_further_behind_than_max_lag_is_not_read_from(
    followers: Replication, caplog: pytest.LogCaptureFixture
) -> None:
    ports = [server.port for server in followers.servers]
    for server in followers.servers:
        ask(server, "SET STATEMENT sql_log_bin = 0 FOR GRANT SLAVE MONITOR ON *.* TO app")
    late = followers.servers[1]
    with Cluster(followers.hosts(), size=2, timeout=10, check_interval=0.1, max_lag=5, **APP) as cluster:
        wait_until(lambda: {port_of(cluster.replica) for _ in range(4)} <= set(ports[1:]), "both are read")
        ask(late, "STOP SLAVE SQL_THREAD")
        wait_until(lambda: "replication is stopped" in state_of(cluster, 1), "it is noticed")
        assert {port_of(cluster.replica) for _ in range(4)} == {ports[2]}
        cluster.drain(cluster.endpoints()[2][0])
        with pytest.raises(PoolUnavailable, match="replication is stopped"):
            cluster.replica.get_connection(timeout=0.3)
        cluster.undrain(cluster.endpoints()[2][0])
        ask(late, "START SLAVE")
        wait_until(lambda: state_of(cluster, 1).endswith("read-only, 0 s behind"), "it has caught up")
    assert "GRANT" not in caplog.text


def test_a_replica_leads_to_its_source_where_replication_is_said(followers: Replication) -> None:
    ports = [server.port for server in followers.servers]
    with Cluster(followers.hosts()[1:2], topology="replication", size=2, timeout=10, **APP) as cluster:
        assert port_of(cluster.replica) == ports[1]
        assert port_of(cluster.primary) == ports[0]
        assert {name for name, _, _ in cluster.endpoints()} == {f"127.0.0.1:{port}" for port in ports[:2]}
    with Cluster(followers.hosts(), topology="replication", size=2, timeout=10, **APP) as cluster:
        assert port_of(cluster.primary) == ports[0]
        assert len(cluster.endpoints()) == 3, "a host of the list is not added by another name"


def lag_questions(server: DevServer) -> int:
    """How often the server was asked how far it is behind."""
    return int(ask(server, "SHOW GLOBAL STATUS LIKE 'Com_show_slave_status'")[0]["Value"])


def test_a_missing_privilege_is_named_once_and_the_replicas_are_read(
    followers: Replication, caplog: pytest.LogCaptureFixture
) -> None:
    for server in followers.servers:
        ask(server, "SET STATEMENT sql_log_bin = 0 FOR REVOKE SLAVE MONITOR ON *.* FROM app")
    ports = [server.port for server in followers.servers]
    with Cluster(followers.hosts(), size=2, timeout=10, check_interval=0.1, max_lag=5, **APP) as cluster:
        wait_until(lambda: {port_of(cluster.replica) for _ in range(4)} <= set(ports[1:]), "both are read")
        wait_until(lambda: caplog.text.count("GRANT SLAVE MONITOR") == 2, "it is named for each")
        before = lag_questions(followers.servers[1])
        wait_until(lambda: lag_questions(followers.servers[1]) > before + 2, "more checks")
    assert caplog.text.count("GRANT SLAVE MONITOR") == 2


@pytest.mark.parametrize("options", [{"max_lag": 1}, {"check_interval": 0}, {"check_interval": 1, "max_lag": -1}])
def test_a_monitor_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"check_interval|max_lag"):
        Cluster(["a", "b"], **options)


class Silence:
    """A cluster, and a clock that the checks of its only host move on."""

    name, asks = "silence", Asks()

    def __init__(self, took: list[float]) -> None:
        self.now = 0.0
        self.took = took  # seconds, of each check without an answer; then the host answers
        self.told: list[str] = []

    def ask(self, *_: object) -> Answer:
        if not self.took:
            return Answer()
        self.now += self.took.pop(0)
        raise pymysql.err.OperationalError(2013, "timed out")

    def pool_of(self, index: int) -> Any:
        return SimpleNamespace(endpoint="db1")

    def is_watched(self, index: int, monitor: Monitor) -> bool:
        return True

    def observed(self, index: int, asked_at: float, answer: Answer) -> None:
        self.told.append("well")

    def missed(self, index: int, asked_at: float, error: BaseException, *, is_dead: bool) -> None:
        self.told.append("dead" if is_dead else "missed")


@pytest.mark.parametrize(
    ("took", "told"),
    [([1.001], "dead"), ([30.0], "well"), ([30.0, 1.001], "dead"), ([30.0, 30.0], "dead"), ([0.1], "dead")],
    ids=["silent", "paused", "paused, and silent", "always late", "refuses"],
)
def test_a_process_that_was_stopped_during_a_check_asks_again(
    took: list[float], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a virtual machine that is moved, or a thread that keeps the GIL: the host has answered, or was never asked."""
    cluster = Silence(took.copy())
    watch = Monitor(cluster, 0, 1.0)
    monkeypatch.setattr(monitor, "monotonic", lambda: cluster.now)
    monkeypatch.setattr(watch, "_ask", cluster.ask)
    watch._check(cluster, 0.0)
    assert cluster.told == [told]
