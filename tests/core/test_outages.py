"""Bad days: dead sockets, silent networks, restarts, full servers, rotated passwords (issue: the pool survives)."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool, PoolClosed, PoolTimeout, PoolUnavailable
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.proxy import Proxy
from tests.support import run_threads, wait_until


def works(pool: ConnectionPool, timeout: float = 10) -> int:
    with pool.get_connection(timeout=timeout) as connection:
        assert connection.execute("select 1") == 1
        return connection.thread_id()


@pytest.mark.parametrize("end", ["cut", "reset", "half_close"])
def test_dead_sockets_are_found_before_they_are_lent(make_pool: MakePool, proxy: Proxy, end: str) -> None:
    pool = make_pool(port=proxy.port, size=3, maxsize=3, pre_create_num=3)
    getattr(proxy, end)()
    wait_until(lambda: all(slot.wire.readable(0) for slot in pool._ledger.idle_slots()), "the news has arrived")
    works(pool)
    assert dict(pool.stats().discarded) == {"dead": 3}, "one was found dead, and the others were looked at at once"


def test_a_silent_connection_is_found_by_pre_ping_within_the_deadline(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=1, maxsize=1, pre_create_num=1)
    proxy.deaf = True
    began = time.monotonic()
    with pytest.raises(PoolUnavailable):
        pool.get_connection(pre_ping=True, timeout=0.5)
    assert time.monotonic() - began < 3
    proxy.deaf = False
    proxy.cut()
    works(pool)
    assert pool.stats().in_use == 0


def test_pre_ping_with_a_number_asks_only_after_so_much_idleness(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=1, maxsize=1, pre_create_num=1, pre_ping=60)
    proxy.stalled = True
    connection = pool.get_connection(timeout=0.5)  # fresh enough: not asked
    proxy.stalled = False
    connection.close()


def test_pre_ping_with_a_number_asks_after_more_idleness(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=1, maxsize=1, pre_create_num=1, pre_ping=0.001)
    proxy.deaf = True
    wait_until(lambda: time.monotonic() - pool._ledger.idle_slots()[0].since > 0.001, "it has been idle for longer")
    with pytest.raises(PoolUnavailable):
        pool.get_connection(timeout=0.4)
    assert dict(pool.stats().discarded) == {"dead": 1}
    proxy.deaf = False


def test_a_server_that_does_not_answer_the_ping_expires_all_of_its_age(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=3, maxsize=3, pre_create_num=3)
    proxy.deaf = True
    with pytest.raises(PoolUnavailable):
        pool.get_connection(pre_ping=True, timeout=0.4)
    assert pool.stats().idle == 0


def test_while_the_server_is_down_one_prober_tries_and_the_herd_waits(make_pool: MakePool, proxy: Proxy) -> None:
    proxy.refusing = True
    pool = make_pool(port=proxy.port, size=20, maxsize=20)

    def borrow(index: int) -> int:
        return works(pool, timeout=20)

    results: list[Any] = []
    together = threading.Thread(target=lambda: results.extend(run_threads(20, borrow)))
    together.start()
    # The first wave may find out together that the server is down; after that only one at a time tries.
    wait_until(lambda: pool._backoff.failing and pool.stats().connecting == 0, "the first wave has failed")
    first_wave = proxy.accepted
    wait_until(lambda: proxy.accepted >= first_wave + 3, "the prober tries")
    tries = proxy.accept_times[first_wave:]
    assert all(later - earlier > 0.03 for earlier, later in pairwise(tries)), tries
    assert pool.stats().waiting >= 19
    proxy.refusing = False
    together.join(30)
    assert all(isinstance(result, int) for result in results), results
    assert pool.stats().in_use == 0


def test_fail_fast_tells_the_cause_without_waiting(make_pool: MakePool, proxy: Proxy) -> None:
    proxy.refusing = True
    pool = make_pool(port=proxy.port, fail_fast=True)
    with pytest.raises(PoolUnavailable):
        pool.get_connection(timeout=0.05)
    began = time.monotonic()
    with pytest.raises(PoolUnavailable, match="could not be reached") as caught:
        pool.get_connection(timeout=20)
    assert time.monotonic() - began < 5
    assert isinstance(caught.value.__cause__, pymysql.err.OperationalError)


def test_a_restart_under_load_fails_only_what_was_in_flight(make_pool: MakePool) -> None:
    with DevServer() as own:
        pool = make_pool(**own.connect_args, size=8, maxsize=8)
        stop = threading.Event()
        good = [0] * 8
        failed: list[list[BaseException]] = [[] for _ in range(8)]

        def work(index: int) -> None:
            while not stop.is_set():
                connection = pool.get_connection(timeout=20)  # never fails: it waits for the server
                try:
                    connection.cursor().execute("select sleep(0.001)")
                    good[index] += 1
                except pymysql.err.MySQLError as error:
                    failed[index].append(error)
                finally:
                    connection.close()

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(good) > 100, "work goes on")
        own.kill()
        own.start()
        after = sum(good)
        wait_until(lambda: sum(good) > after + 200, "work goes on after the restart")
        stop.set()
        for thread in threads:
            thread.join(30)
        assert all(len(errors) <= 1 for errors in failed), failed
        stats = pool.stats()
        assert (stats.in_use, stats.waiting) == (0, 0)
        assert stats.total <= 8


def test_a_full_server_is_lived_with(make_pool: MakePool) -> None:
    """1040: the pool makes do with what it has, and takes more when there is room."""
    with DevServer(options=["--max-connections=10", "--extra-port=0"]) as own:
        args = {**own.connect_args, "ssl_disabled": True}
        pool = make_pool(**args, size=4, maxsize=4)
        first = pool.get_connection()
        others: list[Any] = []
        with pytest.raises(pymysql.err.OperationalError):
            while True:
                others += [pymysql.connect(**args)]
        served: list[int] = []
        waiter = threading.Thread(target=lambda: served.append(works(pool, timeout=20)))
        waiter.start()
        wait_until(lambda: pool.stats().connect_errors > 0, "it was refused")
        first.close()
        waiter.join(20)
        assert served, "it was served by the connection that came home"
        for other in others:
            other.close()
        leases = [pool.get_connection(timeout=20) for _ in range(4)]
        for lease in leases:
            lease.close()
        assert pool.stats().total == 4, "and it took more when there was room"


def test_a_rotated_password_is_asked_for_again(make_pool: MakePool, admin: Any) -> None:
    with admin.cursor() as cursor:
        cursor.execute("drop user if exists rotating@'127.0.0.1', rotating@localhost")
        for host in ("127.0.0.1", "localhost"):
            cursor.execute(f"create user rotating@'{host}' identified by 'new'")
            cursor.execute(f"grant all on *.* to rotating@'{host}'")
    vault = iter(["old", "new"])
    asked: list[str] = []

    def password() -> str:
        asked.append(next(vault))
        return asked[-1]

    pool = make_pool(user="rotating", password=password)
    works(pool)
    assert asked == ["old", "new"]


def test_a_password_that_is_wrong_twice_is_asked_for_no_third_time(make_pool: MakePool) -> None:
    asked: list[str] = []

    def password() -> str:
        asked.append("wrong")
        return asked[-1]

    pool = make_pool(user="nobody_here", password=password)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        pool.get_connection(timeout=20)
    assert caught.value.args[0] == 1045
    assert len(asked) == 2
    assert pool.stats().total == 0


def test_a_server_that_accepts_and_never_greets_hangs_none_of_many(make_pool: MakePool, proxy: Proxy) -> None:
    proxy.stalled = True
    pool = make_pool(port=proxy.port, size=10, maxsize=10)

    def borrow(index: int) -> float:
        began = time.monotonic()
        with pytest.raises((PoolTimeout, PoolUnavailable)):
            pool.get_connection(timeout=0.5)
        return time.monotonic() - began

    waited = run_threads(20, borrow)
    assert all(0.5 <= one < 5 for one in waited), waited
    assert pool.stats().total == 0
    proxy.stalled = False
    works(pool)


def test_a_stalled_handshake_ends_at_the_deadline(make_pool: MakePool, proxy: Proxy) -> None:
    proxy.stalled = True
    pool = make_pool(port=proxy.port)
    began = time.monotonic()
    with pytest.raises(PoolUnavailable):
        pool.get_connection(timeout=0.4)
    assert time.monotonic() - began < 2
    assert pool.stats().total == 0
    proxy.stalled = False


def test_a_reset_that_stalls_is_bounded_and_only_discards(make_pool: MakePool, proxy: Proxy) -> None:
    """Invariant 9."""
    pool = make_pool(port=proxy.port, size=1, maxsize=1, reset_timeout=0.2)
    connection = pool.get_connection()
    connection.execute("set @x = 1")
    proxy.stalled = True
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 2
    assert dict(pool.stats().discarded) == {"reset failed": 1}
    proxy.stalled = False


def test_wait_timeout_of_the_server_is_noticed(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1, init_command="set session wait_timeout = 1")
    before = works(pool)
    wait_until(lambda: pool._ledger.idle_slots()[0].wire.readable(0), "the server closed the session")
    assert works(pool) != before


def test_idle_connections_beyond_size_shrink_back(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=3, max_idle=0.0)
    leases = [pool.get_connection(0, 0) for _ in range(3)]
    for lease in leases:
        lease.close()
    assert pool.connection_num == 3
    pool._tend_at = 0.0
    works(pool)
    assert (pool.connection_num, dict(pool.stats().discarded)) == (1, {"idle": 2})


def test_a_background_thread_keeps_alive_and_ends_with_the_pool(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1, background=True, keepalive=0.1, init_command="set session wait_timeout = 3")
    assert not [thread for thread in threading.enumerate() if "pymysqlpool" in thread.name]
    before = works(pool)
    used = pool._ledger.idle_slots()[0].since
    wait_until(lambda: pool._ledger.idle and pool._ledger.idle_slots()[0].since > used, "it was pinged")
    assert works(pool) == before
    pool.close()
    assert not [thread for thread in threading.enumerate() if "pymysqlpool" in thread.name]


def test_resize_lets_more_in_and_closes_what_is_too_much(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    served: list[int] = []
    waiter = threading.Thread(target=lambda: served.append(works(pool, timeout=20)))
    waiter.start()
    wait_until(lambda: pool.stats().waiting, "it waits")
    pool.resize(2, 2)
    waiter.join(20)
    assert served
    pool.resize(1, 1)
    held.close()
    assert pool.connection_num == 1


def test_nested_borrowing_is_named(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection(), pytest.raises(PoolTimeout, match="nested borrowing"):
        pool.get_connection(timeout=0.05)


def test_failing_hooks_cost_no_capacity(make_pool: MakePool) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError

    pool = make_pool(size=1, maxsize=1, on_connect=fail)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.get_connection(timeout=1)
    assert pool.stats().total == 0
    pool = make_pool(size=1, maxsize=1, on_checkout=fail)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.get_connection(timeout=1)
    assert pool.stats().in_use == 0
    pool = make_pool(size=1, maxsize=1, on_checkin=fail, on_discard=fail)
    for _ in range(3):
        works(pool)
    assert pool.stats().in_use == 0


def test_a_failing_init_command_costs_no_capacity(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, init_command="select nonsense")
    for _ in range(3):
        with pytest.raises(pymysql.err.OperationalError, match="nonsense"):
            pool.get_connection(timeout=1)
    assert pool.stats().total == 0


def test_hooks_are_told_what_happens(make_pool: MakePool) -> None:
    told: list[str] = []
    pool = make_pool(
        size=1,
        on_connect=lambda connection: told.append(f"connect {connection.thread_id() > 0}"),
        on_checkout=lambda connection: told.append("checkout"),
        on_checkin=lambda connection: told.append("checkin"),
        on_discard=told.append,
    )
    works(pool)
    pool.drain()
    assert told == ["connect True", "checkout", "checkin", "generation"]


def test_what_finishes_connecting_after_the_pool_was_closed_is_not_lent(make_pool: MakePool, proxy: Proxy) -> None:
    """Invariant 12."""
    pool = make_pool(port=proxy.port, size=1, maxsize=1)
    proxy.stalled = True
    told: list[BaseException] = []

    def borrow() -> None:
        try:
            pool.get_connection(timeout=20)
        except pymysql.err.MySQLError as error:
            told.append(error)

    thread = threading.Thread(target=borrow)
    thread.start()
    wait_until(lambda: pool.stats().connecting, "it is connecting")
    pool.close(timeout=0)
    proxy.stalled = False
    thread.join(20)
    assert isinstance(told[0], PoolClosed)
    assert pool.stats().total == 0


def test_a_caller_whose_time_runs_out_while_it_connects_is_no_news_of_the_server(
    make_pool: MakePool, proxy: Proxy
) -> None:
    """Invariant 22. It had waited in the queue for most of its time; no other caller is held back for it."""
    pool = make_pool(port=proxy.port, size=1, maxsize=1, pre_create_num=1)
    held = pool.get_connection()
    began = time.monotonic()
    failures: list[BaseException] = []

    def wait_and_connect() -> None:
        try:
            pool.get_connection(timeout=1)
        except pymysql.err.OperationalError as error:
            failures.append(error)

    waiter = threading.Thread(target=wait_and_connect)
    waiter.start()
    wait_until(lambda: time.monotonic() > began + 0.7, "most of its time is over")
    proxy.stalled = True
    pool.drain()
    held.close()
    waiter.join()
    assert len(failures) == 1
    assert pool.stats().connect_errors == 1
    assert not pool._backoff.failing
    proxy.stalled = False
    works(pool)
