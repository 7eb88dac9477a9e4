"""A cluster of three servers: roles are switched by `read_only`, servers are killed, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pymysql
import pytest

from pymysqlpool import PoolClosed, PoolTimeout, PoolUnavailable, SettingsError
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from pymysqlpool.errors import AmbiguousPrimary
from pymysqlpool.failures import WRONG_ROLE
from tests.core.test_call_counts import calls
from tests.support import Bolt, Questions, freeze, run_threads, strike, wait_until

NUMBER = 3
APP = {"user": "app", "password": "app", "database": "test", "ssl_disabled": True}  # read_only does not bind root


def execute(server: DevServer, *statements: str) -> None:
    connection = pymysql.connect(**server.connect_args)
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


def start(stack: ExitStack, request: pytest.FixtureRequest) -> DevServer:
    """A server with the account of an application."""
    server = stack.enter_context(DevServer(binary=request.config.getoption("--server")))
    execute(server, "CREATE USER app IDENTIFIED BY 'app'", "GRANT ALL ON test.* TO app")
    return server


class Trio:
    """Three servers, the first of which takes writes."""

    def __init__(self, servers: list[DevServer]) -> None:
        self.servers = servers

    def role(self, index: int, *, writable: bool) -> None:
        execute(self.servers[index], f"SET GLOBAL read_only = {not writable:d}")

    def hosts(self) -> list[Any]:
        return [{"host": server.host, "port": server.port} for server in self.servers]


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[list[DevServer]]:
    with ExitStack() as stack:
        yield [start(stack, request) for _ in range(NUMBER)]


@pytest.fixture
def trio(servers: list[DevServer]) -> Trio:
    trio = Trio(servers)
    for index in range(NUMBER):
        trio.role(index, writable=index == 0)
    return trio


@pytest.fixture
def make_cluster(trio: Trio) -> Iterator[Any]:
    clusters: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        cluster = Cluster(trio.hosts(), **{"size": 4, "maxsize": 4, "timeout": 10, **APP, **options})
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close(timeout=0)


def port_of(pool: Any, **options: Any) -> int:
    with pool.get_connection(**options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@port")
        return int(cursor.fetchone()[0])


def test_writes_go_to_the_one_that_takes_them_and_reads_to_the_others(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    ports = [server.port for server in trio.servers]
    assert port_of(cluster.primary) == ports[0]
    assert {port_of(cluster.replica) for _ in range(4)} <= set(ports[1:])
    assert port_of(cluster.target("any")) in ports
    assert "takes writes" in repr(cluster)


def test_readers_are_spread_over_the_replicas(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    held = [cluster.replica.get_connection() for _ in range(4)]
    ports = sorted(connection.port for connection in held)
    assert ports == sorted([trio.servers[1].port, trio.servers[2].port] * 2)
    for connection in held:
        connection.close()


def test_a_planned_switchover_moves_the_writes(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    assert port_of(cluster.primary) == trio.servers[0].port
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    with pytest.raises(pymysql.err.MySQLError, match="read-only"), cluster.primary.get_connection() as connection:
        connection.cursor().execute("CREATE TABLE nowhere (id INT)")
    assert port_of(cluster.primary) == trio.servers[1].port, "one failed statement, and the next goes to the right one"


def test_a_refused_write_is_news_of_the_cluster_and_the_applications_hook_is_told_too(
    trio: Trio, make_cluster: Any
) -> None:
    reasons: list[str] = []
    cluster = make_cluster(on_discard=reasons.append)
    assert port_of(cluster.primary) == trio.servers[0].port
    trio.role(0, writable=False)
    with pytest.raises(pymysql.err.MySQLError, match="read-only"), cluster.primary.get_connection() as connection:
        connection.cursor().execute("CREATE TABLE nowhere (id INT)")
    assert cluster.endpoints()[0][1] == "suspect", "it is asked before another connection to it is made"
    assert "read only" in reasons
    with pytest.raises(SettingsError, match="on_discard"):
        make_cluster(on_discard=3)


@pytest.mark.parametrize("how", ["a refused write", "the question about the role of an idle connection"])
def test_a_refusal_is_news_before_its_connection_makes_room_for_another(
    trio: Trio, make_cluster: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else a waiter that is let in by its end makes a session with the old primary first."""
    cluster = make_cluster(role_check=0.0 if "idle" in how else 1000)
    assert port_of(cluster.primary) == trio.servers[0].port
    occupied: list[int] = []
    pool = cluster.lending.pools[0]
    monkeypatch.setattr(cluster.lending, "refused_work", lambda index: occupied.append(pool.connection_num))
    if "idle" in how:
        answers = iter([WRONG_ROLE])
        monkeypatch.setattr("pymysqlpool._pool.checkout.ask", lambda *_: next(answers, None))
        cluster.primary.get_connection().close()
    else:
        trio.role(0, writable=False)
        with pytest.raises(pymysql.err.MySQLError, match="read-only"), cluster.primary.get_connection() as connection:
            connection.cursor().execute("CREATE TABLE nowhere (id INT)")
    assert set(occupied) == {1}, "told when it is read, and when the connection is judged"


@pytest.mark.parametrize("awaits", [False, True])
def test_a_refusal_is_news_while_its_connection_is_still_lent(awaits: bool, trio: Trio, make_cluster: Any) -> None:
    """The application handles the error first, and others borrow meanwhile."""
    cluster = make_cluster()
    write = "CREATE TABLE nowhere (id INT)"

    async def awaited() -> str:
        pool = AsyncConnectionPool(pool=cluster.primary)
        async with pool.get_connection() as connection, connection.cursor() as cursor:
            trio.role(0, writable=False)
            with pytest.raises(pymysql.err.MySQLError, match="read-only"):
                await cursor.execute(write)
            known: str = cluster.endpoints()[0][1]
        pool.end_threads()
        return known

    if awaits:
        assert asyncio.run(awaited()) == "suspect"
        return
    with cluster.primary.get_connection() as connection:
        trio.role(0, writable=False)
        with pytest.raises(pymysql.err.MySQLError, match="read-only"):
            connection.cursor().execute(write)
        assert cluster.endpoints()[0][1] == "suspect"


def test_two_servers_that_take_writes_are_an_error(trio: Trio, make_cluster: Any) -> None:
    trio.role(1, writable=True)
    cluster = make_cluster()
    with pytest.raises(AmbiguousPrimary, match="only one may be the primary") as refused:
        cluster.primary.get_connection()
    assert str(trio.servers[0].port) in str(refused.value)
    assert port_of(cluster.replica) == trio.servers[2].port
    trio.role(1, writable=False)
    wait_until(lambda: is_lent(cluster), "an operator has mended it, and the cluster notices")
    assert port_of(cluster.primary) == trio.servers[0].port


def test_a_server_that_only_claims_to_be_the_primary_is_not_taken_to_have_a_commit(
    trio: Trio, make_cluster: Any
) -> None:
    cluster = make_cluster(balance="order")
    trio.role(1, writable=True)
    for target in ("any", "prefer-replica"):
        with pytest.raises(AmbiguousPrimary):
            port_of(cluster.target(target), after="0-1-1", timeout=5)
    trio.role(0, writable=False)
    wait_until(lambda: is_lent(cluster), "the new primary is found")
    assert port_of(cluster.target("any"), after="0-1-1") == trio.servers[1].port
    assert cluster.stats().in_use == 0


def is_lent(cluster: Cluster) -> bool:
    try:
        cluster.primary.get_connection().close()
    except AmbiguousPrimary:
        return False
    return True


def test_the_application_may_have_rows_as_mappings(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(cursorclass=pymysql.cursors.DictCursor)
    with cluster.primary.get_connection() as connection:
        assert connection.port == trio.servers[0].port


def test_no_replica_is_lent_as_the_primary_and_the_wait_is_bounded(trio: Trio, make_cluster: Any) -> None:
    trio.role(0, writable=False)
    cluster = make_cluster()
    began = monotonic()
    with pytest.raises(PoolUnavailable, match="no primary lent one"):
        cluster.primary.get_connection(timeout=0.5)
    assert monotonic() - began < 3
    assert port_of(cluster.target("prefer-primary"))


def test_a_caller_waits_for_the_promotion_of_a_replica(trio: Trio, make_cluster: Any) -> None:
    trio.role(0, writable=False)
    cluster = make_cluster()
    lent: list[int] = []
    caller = threading.Thread(target=lambda: lent.append(port_of(cluster.primary, timeout=20)))
    caller.start()
    wait_until(lambda: cluster.stats().borrowed >= NUMBER, "all were asked")
    trio.role(2, writable=True)
    caller.join(20)
    assert lent == [trio.servers[2].port]


def test_a_killed_primary_is_left_when_another_is_promoted(trio: Trio, make_cluster: Any, request: Any) -> None:
    with ExitStack() as stack:
        doomed = start(stack, request)
        trio.role(0, writable=False)
        hosts = [{"host": doomed.host, "port": doomed.port}, *trio.hosts()]
        with Cluster(hosts, size=4, maxsize=4, timeout=10, **APP) as cluster:
            assert port_of(cluster.primary) == doomed.port
            doomed.kill()
            assert port_of(cluster.replica) in [server.port for server in trio.servers]
            trio.role(1, writable=True)
            with pytest.raises(pymysql.err.MySQLError), cluster.primary.get_connection() as stale:
                stale.cursor().execute("SELECT 1")  # at most what was in flight, or found dead in its place
                raise pymysql.err.OperationalError(0, "it was found dead before it was lent")
            assert port_of(cluster.primary) == trio.servers[1].port


def test_a_frozen_replica_holds_readers_for_no_longer_than_an_answer_may_take(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(read_timeout=1.0)
    assert port_of(cluster.replica)
    frozen = trio.servers[1]
    assert frozen.pid is not None
    freeze(frozen.pid)
    try:
        began = monotonic()
        done = 0
        while done < 3 and monotonic() - began < 15:
            try:
                assert port_of(cluster.replica) == trio.servers[2].port
                done += 1
            except pymysql.err.OperationalError:
                continue
        assert done == 3
    finally:
        os.kill(frozen.pid, signal.SIGCONT)


def test_callers_are_served_in_order_and_none_is_lost(make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)

    def work(index: int) -> int:
        return sum(port_of(cluster.primary) > 0 for _ in range(20))

    assert run_threads(8, work) == [20] * 8
    assert cluster.stats().in_use == 0


def test_an_exhausted_cluster_says_so(make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)
    with cluster.primary.get_connection(), pytest.raises(PoolTimeout, match="no primary lent one"):
        cluster.primary.get_connection(timeout=0.3)
    everywhere = cluster.target("any")
    leases = [everywhere.get_connection() for _ in range(3)]
    with pytest.raises(PoolTimeout, match="no host lent one"):
        everywhere.get_connection(timeout=0.3)
    for lease in leases:
        lease.close()


def test_a_drained_host_is_left_and_comes_back(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    out = f"{trio.servers[1].host}:{trio.servers[1].port}"
    cluster.drain(out)
    assert {port_of(cluster.replica) for _ in range(4)} == {trio.servers[2].port}
    cluster.undrain(out)
    held = [cluster.replica.get_connection() for _ in range(4)]
    assert {connection.port for connection in held} == {trio.servers[1].port, trio.servers[2].port}
    for connection in held:
        connection.close()


def test_a_closed_cluster_lends_nothing_and_wakes_its_waiters(make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)
    held = cluster.primary.get_connection()
    refused: list[BaseException] = []

    def wait() -> None:
        try:
            cluster.primary.get_connection(timeout=20)
        except PoolClosed as error:
            refused.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    cluster.close(timeout=0)
    waiter.join(10)
    assert refused
    assert not cluster.is_open
    with pytest.raises(PoolClosed):
        cluster.primary.get_connection()
    held.close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        *(({"hosts": one}, "list of at least one") for one in ([], None, 5, "db1", {"host": "db1"}, {"db1"})),
        ({"hosts": {"db1": 3306}.keys()}, "list of at least one"),
        *(({"hosts": two}, "twice") for two in (["a", "a:3306"], ["DB1", "db1"], ["db1.", "db1"], ["::1", "0::1"])),
        *(({"hosts": ["a"], "check_interval": one}, "at most") for one in (float("inf"), 1e10)),
        ({"hosts": ["a:no"]}, "port"),
        ({"hosts": [{"port": 3306}]}, "needs a host"),
        *(({"hosts": [{"host": one}]}, "needs a host") for one in ("", " ", None, 1, b"a")),
        *(({"hosts": [{"host": "a", "port": one}]}, "port") for one in (0, -1, True, False, 70000, "3306", 3306.0)),
        *(
            ({"hosts": [{"host": "a", "weight": one}]}, "weight")
            for one in (0, -1, float("nan"), float("inf"), True, "2", None, 10**30)
        ),
        *(({"hosts": [{"host": "a", "zone": one}]}, "zone") for one in (None, 1, b"z")),
        ({"hosts": [{"host": "a", 1: 2, "b": 3}]}, "may have port"),
        *(({"hosts": ["a"], "zone": one}, "zone") for one in (None, 1, b"z")),
        ({"hosts": ["a"], "balance": "zone"}, "needs zone"),
        ({"hosts": ["a"], "host": "b"}, "hosts="),
        ({"hosts": ["a"], "balance": "best"}, "balance"),
        ({"hosts": ["a"], "siz": 3}, "siz"),
    ],
    ids=repr,
)
def test_what_cannot_be_a_cluster_is_refused_when_it_is_made(options: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        Cluster(**options)


def test_a_host_is_drained_by_the_name_that_is_shown_of_it() -> None:
    with Cluster(["db1", "db2:3307", "::1", "[::1]:3307", {"host": "fe80::1", "port": 3308}]) as cluster:
        for name, _, _ in cluster.endpoints():
            cluster.drain(name)
        assert {state for _, state, _ in cluster.endpoints()} == {"draining"}


@pytest.mark.parametrize(("zone", "warned"), [("b", False), ("bb", True)])
def test_a_zone_in_which_there_is_no_host_is_told(zone: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It may be misspelt, and nothing else would ever show that."""
    Cluster(["db1", {"host": "db2", "zone": "b"}], balance="zone", zone=zone).close()
    assert [record.zone for record in caplog.records if getattr(record, "event", "") == "no host in zone"] == [
        zone
    ] * warned


def test_a_target_is_one_pool_however_it_is_asked_for(make_cluster: Any) -> None:
    """A request has one connection of each pool."""
    cluster = make_cluster()
    assert cluster.target("primary") is cluster.primary
    assert cluster.target("any") is cluster.target("any")


ELSEWHERE = """
import pickle, sys
first, second = pickle.load(sys.stdin.buffer)
assert first is second.cluster.replica
with second.cluster, second.get_connection() as connection:
    print(connection.port, second.settings.size, second.cluster.name)
"""


def test_a_cluster_that_is_pickled_is_itself_here_and_one_cluster_elsewhere(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(balance="order", name="shop", pre_create_num=1)
    assert pickle.loads(pickle.dumps(cluster)) is cluster
    assert pickle.loads(pickle.dumps(cluster.primary)) is cluster.primary
    travels = pickle.dumps((cluster.replica, cluster.primary))
    said = subprocess.run([sys.executable, "-c", ELSEWHERE], input=travels, capture_output=True, check=True)
    assert said.stdout.decode().split() == [str(trio.servers[0].port), "4", "shop"]


def test_adapters_take_a_target_for_a_pool(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    with cluster.primary.scope() as scope:
        assert scope.connection().port == trio.servers[0].port
    assert cluster.stats().in_use == 0


def test_a_url_names_the_hosts(trio: Trio) -> None:
    places = ",".join(f"{server.host}:{server.port}" for server in trio.servers)
    with Cluster.from_url(f"mysql://app:app@{places}/test?balance=order", size=2, maxsize=2) as cluster:
        assert port_of(cluster.primary) == trio.servers[0].port
        assert port_of(cluster.replica) == trio.servers[1].port
    with pytest.raises(SettingsError, match="unknown option"):
        Cluster.from_url("mysql://db1,db2/shop?balanc=order")


def test_a_borrow_of_known_replicas_asks_nothing_and_is_spread_all_the_same(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    ports = sorted(server.port for server in trio.servers[1:])
    for _ in range(2):
        held = [cluster.replica.get_connection() for _ in range(4)]
        for connection in held:
            connection.close()

    def borrow_two() -> None:
        one, other = cluster.replica.get_connection(), cluster.replica.get_connection()
        assert sorted([one.port, other.port]) == ports
        one.close()
        other.close()

    found = min((calls(borrow_two) for _ in range(5)), key=Counter.total)
    assert found.total() < 70, f"no decision for each: {found}"
    assert not found["decide"]
    with ExitStack() as stack:
        admins = [stack.enter_context(pymysql.connect(**server.connect_args)) for server in trio.servers]
        asked = [stack.enter_context(Questions(admin).during()) for admin in admins]
        for _ in range(50):
            borrow_two()
    assert asked == [[0], [0], [0]]


def test_a_borrow_of_the_known_primary_asks_nothing(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    assert port_of(cluster.primary) == trio.servers[0].port
    with pymysql.connect(**trio.servers[0].connect_args) as admin, Questions(admin).during() as asked:
        for _ in range(100):
            cluster.primary.get_connection().close()
    assert asked == [0]
    cluster.drain(f"{trio.servers[0].host}:{trio.servers[0].port}")
    with pytest.raises(PoolUnavailable):
        cluster.primary.get_connection(timeout=0.1)


@pytest.mark.parametrize(
    "use",
    [
        lambda cluster: port_of(cluster.primary),
        lambda cluster: cluster.endpoints(),
        repr,
        lambda cluster: cluster.drain(cluster.lending.pools[0].endpoint),
        lambda cluster: cluster.undrain(cluster.lending.pools[0].endpoint),
        lambda cluster: cluster.lending.refused_work(0),
        lambda cluster: cluster.close(timeout=0),
    ],
    ids=["borrow", "endpoints", "repr", "drain", "undrain", "refused", "close"],
)
def test_a_forked_child_of_a_busy_cluster_has_books_of_its_own(use: Any, trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1, check_interval=5)
    port_of(cluster.primary)
    with cluster.lending._lock:  # as another thread may have it, at the fork
        forked = threading.Thread(target=fork_and_use, args=(cluster, use, results := []))
        forked.start()
        forked.join(20)
    assert results == [0]


def fork_and_use(cluster: Cluster, use: Any, results: list[int]) -> None:
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(5)  # it kills a child that hangs
            use(cluster)
            os._exit(0)
        finally:
            os._exit(1)
    results.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_callers_that_are_struck_leave_no_place_taken(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)

    def borrow() -> None:
        try:
            while not over.is_set():
                port_of(cluster.primary)
        except Bolt:
            pass

    for _ in range(10):
        over = threading.Event()  # a finalizer that was struck swallows the strike
        threads = [threading.Thread(target=borrow) for _ in range(3)]
        for thread in threads:
            thread.start()
        borrowed = cluster.stats().borrowed
        wait_until(lambda borrowed=borrowed: cluster.stats().borrowed > borrowed, "they borrow")
        for thread in threads:
            strike(thread)
        threads[0].join(0.05)
        over.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a caller hangs"
        assert port_of(cluster.primary) == trio.servers[0].port
        wait_until(lambda: cluster.stats().in_use == 0, "all came home")


def test_a_borrow_when_a_decision_has_ended_decides_again_and_is_counted_once(make_cluster: Any) -> None:
    cluster = make_cluster()
    cluster.primary.get_connection().close()
    line = cluster.lending.lines["primary"]
    ended = line.express
    before = cluster.stats().borrowed
    ended.until = 0.0
    cluster.primary.get_connection().close()
    assert line.express is not ended
    assert cluster.stats().borrowed == before + 1
