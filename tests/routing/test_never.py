"""What a cluster never does, whatever befalls its hosts: a statement sent twice, a lease that changes its server, one
transaction over two servers, a wait without a bound, a queue without an order, a dead host that all ask at once.

(Two primaries, and a replica lent as the primary: see test_cluster.py, and core/test_topology.py for all histories.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, pairwise
from time import monotonic
from typing import Any

import pymysql
import pytest

from pymysqlpool._routing.lending import Borrow
from pymysqlpool._routing.queue import Ticket
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.errors import PoolError, PoolTimeout
from tests.proxy import Proxy
from tests.routing.test_cluster import APP, Trio, execute, make_cluster, port_of, servers, trio
from tests.support import freeze, wait_until

__all__ = ["make_cluster", "servers", "trio"]

TARGETS: tuple[Any, ...] = ("any", "primary", "replica", "prefer-primary", "prefer-replica")
WRITERS = 8
ROUNDS = 6  # of chaos
LEDGER = "CREATE OR REPLACE TABLE test.ledger (token INT, part INT, port INT)"  # without a key: a repeat would be kept


# -- statements, leases, transactions ------------------------------------------------------------------------


class Writers:
    """Threads that write transactions of two statements each, and note which were acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.acknowledged: set[int] = set()
        self.moved: list[int] = []
        self.failed = 0
        self._tokens = count()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def _write(self) -> None:
        while not self._end.is_set():
            token = next(self._tokens)
            try:
                with self.cluster.primary.get_connection(timeout=5) as connection, connection.cursor() as cursor:
                    port = connection.port
                    for part in (1, 2):
                        cursor.execute("INSERT INTO ledger VALUES (%s, %s, @@port)", (token, part))
                        cursor.execute("SELECT @@port")
                        if cursor.fetchone() != (port,) or connection.port != port:
                            self.moved.append(token)
                    connection.commit()
            except (pymysql.err.MySQLError, OSError):
                self.failed += 1
            else:
                self.acknowledged.add(token)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a writer hangs"

    def go_on(self, number: int = 20) -> None:
        wanted = len(self.acknowledged) + number
        wait_until(lambda: len(self.acknowledged) >= wanted, "transactions are committed", 20)


def kill_sessions(trio: Trio, index: int) -> None:
    with pymysql.connect(**trio.servers[index].connect_args) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'app'")
        for (number,) in cursor.fetchall():
            with suppress(pymysql.err.MySQLError):
                cursor.execute(f"KILL {number}")


def rows(trio: Trio) -> list[tuple[int, int, int]]:
    """All that was written, wherever: token, part, port."""
    found: list[tuple[int, int, int]] = []
    for server in trio.servers:
        with pymysql.connect(**server.connect_args) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT token, part, port FROM test.ledger")
            found += cursor.fetchall()
    return found


def test_each_statement_is_sent_once_and_each_transaction_is_on_one_server(trio: Trio, make_cluster: Any) -> None:
    for server in trio.servers:
        execute(server, LEDGER)
    cluster = make_cluster()
    with Writers(cluster) as writers:
        writers.go_on()
        for number in range(ROUNDS):
            old, new = number % 3, (number + 1) % 3
            kill_sessions(trio, old)
            writers.go_on()
            trio.role(old, writable=False)
            trio.role(new, writable=True)
            writers.go_on()
    found = rows(trio)
    assert len(found) == len(set(found)), "a statement was sent twice"
    places = {(token, port) for token, _, port in found}
    assert len(places) == len({token for token, _ in places}), "a transaction is on two servers"
    assert len(found) == 2 * len(places), "half a transaction was committed"
    assert writers.acknowledged <= {token for token, _ in places}, "an acknowledged write is lost"
    assert not writers.moved, "a lease changed its server"
    assert len({port for _, port in places}) == 3
    assert writers.failed <= 2 * ROUNDS * WRITERS, "more failed than were in flight"


@pytest.mark.filterwarnings("ignore:The 'reconnect' argument:DeprecationWarning")
def test_a_lease_whose_server_is_gone_stays_with_it(trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster()
    connection = cluster.primary.get_connection()
    kill_sessions(trio, 0)
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    assert port_of(cluster.primary) == trio.servers[1].port, "others go on elsewhere"
    with connection.cursor() as cursor, pytest.raises(pymysql.err.OperationalError):
        cursor.execute("SELECT 1")
    with suppress(pymysql.err.MySQLError):
        connection.ping(reconnect=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@port")
            assert cursor.fetchone() == (trio.servers[0].port,)
    connection.close()


def test_a_caller_that_enters_calls_the_next_if_there_is_room_for_both(trio: Trio, make_cluster: Any) -> None:
    """After a promotion all connect at the same time, in order, and not one after the other. Driven by hand."""
    cluster = make_cluster(size=2, maxsize=2)
    held = [cluster.primary.get_connection() for _ in range(2)]
    tickets = [Ticket() for _ in range(4)]
    callers = [cluster.primary.steps(ticket, 3, 0.1, False, 20.0) for ticket in tickets]
    try:
        assert isinstance(next(callers[0]), Borrow), "one may always try"
        assert [isinstance(next(caller), float) for caller in callers[1:]] == [True] * 3
        for connection in held:
            connection.close()
        assert not tickets[1].wait(0)
        step = callers[0].throw(PoolTimeout("all are lent"))
        assert isinstance(step, Borrow)
        assert tickets[1].wait(0), "there is room for it, too"
        assert not tickets[2].wait(0), "and for it, the second has to enter first"
        assert isinstance(callers[1].send(True), Borrow)
        assert not tickets[2].wait(0), "there is no room for a third"
    finally:
        for caller in callers:
            caller.close()
    assert cluster.stats().in_use == 0


# -- waits ---------------------------------------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[dict[str, Any]]:
    """A host that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield {"host": "127.0.0.1", "port": listener.getsockname()[1]}


def _all_frozen(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    port_of(cluster.primary)
    port_of(cluster.replica)
    for server in trio.servers:
        assert server.pid is not None
        freeze(server.pid)
        stack.callback(os.kill, server.pid, signal.SIGCONT)


def _all_read_only(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    trio.role(0, writable=False)


def _two_primaries(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    trio.role(1, writable=True)


def _all_writable(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    trio.role(1, writable=True)
    trio.role(2, writable=True)


def _all_taken(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    for _ in range(8):
        with suppress(PoolError):
            stack.callback(cluster.target("any").get_connection(timeout=0.2).close)


def _all_taken_out(stack: ExitStack, trio: Trio, cluster: Cluster) -> None:
    for name, _, _ in cluster.endpoints():
        cluster.drain(name)


@pytest.mark.parametrize(
    "befalls", [_all_frozen, _all_read_only, _two_primaries, _all_writable, _all_taken, _all_taken_out]
)
def test_no_borrow_waits_longer_than_it_may(befalls: Any, trio: Trio, make_cluster: Any) -> None:
    cluster = make_cluster(size=1, maxsize=1)
    with ExitStack() as stack:
        befalls(stack, trio, cluster)
        took = borrow_from_all(cluster, 0.5)
    assert max(took) < 1.5, dict(zip(TARGETS * 2, took, strict=True))


def test_no_borrow_waits_longer_than_it_may_for_hosts_that_say_nothing(trio: Trio) -> None:
    with (
        silent() as one,
        silent() as other,
        Cluster([one, other, {"host": "127.0.0.1", "port": 1}], size=1, timeout=20, **APP) as cluster,
    ):
        assert max(borrow_from_all(cluster, 0.5)) < 1.5


def borrow_from_all(cluster: Cluster, timeout: float) -> list[float]:
    """Seconds that a borrow for each target took, by threads and by tasks, all at once."""

    def work(index: int, took: dict[int, float]) -> None:
        began = monotonic()
        with suppress(PoolError), cluster.target(TARGETS[index]).get_connection(timeout=timeout):
            pass
        took[index] = monotonic() - began

    async def task(index: int, took: dict[int, float]) -> None:
        pool = AsyncConnectionPool(pool=cluster.target(TARGETS[index]))
        began = monotonic()
        with suppress(PoolError):
            async with pool.get_connection(timeout=timeout):
                pass
        took[len(TARGETS) + index] = monotonic() - began
        pool.end_threads(wait=False)

    async def tasks(took: dict[int, float]) -> None:
        await asyncio.gather(*(task(index, took) for index in range(len(TARGETS))))

    took: dict[int, float] = {}
    threads = [threading.Thread(target=work, args=(index, took)) for index in range(len(TARGETS))]
    for thread in threads:
        thread.start()
    asyncio.run(tasks(took))
    for thread in threads:
        thread.join(20)
    assert len(took) == 2 * len(TARGETS), "a borrow hangs"
    return [took[index] for index in sorted(took)]


# -- the queue -----------------------------------------------------------------------------------------------


def test_callers_are_served_in_order_of_arrival_also_by_another_host(trio: Trio, make_cluster: Any) -> None:
    """Threads and tasks wait in one queue. The primary is demoted while they wait, and another one serves them."""
    cluster = make_cluster(size=1, maxsize=1, check_interval=0.1)
    held = cluster.primary.get_connection()
    served: list[int] = []
    pool = AsyncConnectionPool(pool=cluster.primary)
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()

    def as_thread(number: int) -> None:
        with cluster.primary.get_connection(timeout=20) as connection:
            served.append(number)
            assert connection.port == trio.servers[1].port

    async def as_task(number: int) -> None:
        async with pool.get_connection(timeout=20):
            served.append(number)

    def arrived() -> int:
        queue = cluster.lending._queues.get("primary")
        return queue._arrivals if queue is not None else 0

    before = arrived()
    waiting: list[Any] = []
    for number in range(10):
        if number % 2:
            waiting.append(asyncio.run_coroutine_threadsafe(as_task(number), loop))
        else:
            waiting.append(thread := threading.Thread(target=as_thread, args=(number,)))
            thread.start()
        wait_until(lambda number=number: arrived() == before + number + 1, "the caller waits")
    trio.role(0, writable=False)
    trio.role(1, writable=True)
    wait_until(lambda: "takes writes" in cluster.endpoints()[1][1], "the new primary is noticed")
    held.close()
    for one in waiting:
        one.join(20) if isinstance(one, threading.Thread) else one.result(20)
    assert served == list(range(10))
    asyncio.run_coroutine_threadsafe(pool.close(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    running.join(20)
    loop.close()


def test_a_host_that_is_down_is_asked_by_one_caller_at_a_time_and_less_and_less(trio: Trio) -> None:
    primary = trio.servers[0]
    with Proxy((primary.host, primary.port)) as proxy:
        hosts = [{"host": "127.0.0.1", "port": proxy.port}, *trio.hosts()[1:]]
        with Cluster(hosts, size=4, maxsize=4, timeout=20, **APP) as cluster:
            assert port_of(cluster.primary) == primary.port
            proxy.refusing = True
            proxy.cut()
            before, began = proxy.accepted, monotonic()
            ports: list[int] = []
            callers = [threading.Thread(target=lambda: ports.append(port_of(cluster.primary))) for _ in range(20)]
            for caller in callers:
                caller.start()
            wait_until(lambda: monotonic() - began > 2.0, "they wait")
            asked, times = proxy.accepted - before, proxy.accept_times[before:]
            neighbours = cluster.stats().created
            proxy.refusing = False
            for caller in callers:
                caller.join(20)
            assert ports == [primary.port] * 20, "all are served when it is back"
            assert 3 <= asked <= 9, asked
            known = [time for time in times if time > times[0] + 0.02]  # before, several may notice it at once
            gaps = [later - earlier for earlier, later in pairwise(known)]
            assert min(gaps) > 0.02, "one after the other, with a pause"
            assert neighbours <= 8, "the others get no connections for it but those to ask them"
