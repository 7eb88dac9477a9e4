"""ConnectionPool on a real server: bounds, order, deadlines, numbers."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pymysql
import pytest

import pymysqlpool
from pymysqlpool import (
    ConnectionPool,
    GetConnectionFromPoolError,
    PoolClosed,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
    ReturnConnectionToPoolError,
    SettingsError,
)
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.support import Questions, run_threads, wait_until


def thread_id(connection: Any) -> int:
    return int(connection.thread_id())


def test_creating_a_pool_opens_no_socket() -> None:
    """Invariant 15: nothing listens there, and no error says so."""
    pool = ConnectionPool(host="127.0.0.1", port=1, user="nobody")
    assert pool.stats().total == 0
    pool.close()


def test_a_borrow_and_return_without_a_query_costs_no_round_trip(make_pool: MakePool, admin: Any) -> None:
    """Invariant 9, counted on the server."""
    for autocommit in (True, False):
        pool = make_pool(size=1, autocommit=autocommit, pre_create_num=1)
        with Questions(admin).during() as counted:
            for _ in range(100):
                pool.get_connection().close()
        assert counted == [0]


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_timeout_without_end_connects(make_pool: MakePool, timeout: float) -> None:
    with make_pool(size=1, maxsize=1, timeout=timeout).get_connection() as connection:
        assert connection.query("SELECT 1") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry_num": "3"},
        {"retry_interval": float("nan")},
        {"retry_num": -1},
        {"retry_interval": float("inf")},
        {"retry_num": 10**400},
    ],
)
def test_a_patience_that_cannot_be_one_is_refused_by_name(make_pool: MakePool, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))}="):
        make_pool().get_connection(**wrong)


NO_SECONDS = [float("nan"), "5", True, 10**400, [1]]


@pytest.mark.parametrize("timeout", NO_SECONDS, ids=lambda value: repr(value)[:8])
@pytest.mark.parametrize("state", ["fresh", "exhausted"])
def test_a_timeout_that_is_none_is_refused_before_anything_is_done(
    make_pool: MakePool, state: str, timeout: Any, connect_args: dict[str, Any]
) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection() if state == "exhausted" else None
    with pytest.raises(SettingsError, match="timeout"):
        pool.get_connection(timeout=timeout)
    with pytest.raises(SettingsError, match="timeout"):
        pool.close(timeout=timeout)
    with pytest.raises(SettingsError, match="timeout"):
        asyncio.run(borrow(AsyncConnectionPool(pool=pool), timeout))
    assert (pool.is_closed, pool.stats().waiting, pool.stats().total) == (False, 0, int(held is not None))
    cluster = Cluster(hosts=[f"127.0.0.1:{connect_args['port']}"], user="root")
    with pytest.raises(SettingsError, match="timeout"):
        cluster.primary.get_connection(timeout=timeout)
    with pytest.raises(SettingsError, match="timeout"):
        cluster.close(timeout=timeout)
    assert not cluster.lending.closed
    cluster.close()
    if held is not None:
        held.close()


async def borrow(pool: AsyncConnectionPool, timeout: Any, **more: Any) -> None:
    await pool.get_connection(timeout=timeout, **more)


@pytest.mark.parametrize("asks_first", [False, True])
def test_a_refused_call_takes_no_connection_and_no_place_in_the_queue(
    make_pool: MakePool, asks_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(size=1, maxsize=1, pre_ping=asks_first, pre_create_num=1)
    for refused in ({"timeout": "5"}, {"timeout": float("nan")}, {"retry_num": -1}):
        if asks_first or "retry_num" in refused:
            with pytest.raises(SettingsError):
                pool.get_connection(**{"pre_ping": True, **refused})  # type: ignore[arg-type]
        held = pool.get_connection()
        with pytest.raises(SettingsError):
            asyncio.run(borrow(AsyncConnectionPool(pool=pool), **{"timeout": None, **refused}))
        held.close()
        assert (pool.stats().waiting, pool.stats().in_use, pool.stats().idle) == (0, 0, 1)
    pool.get_connection(timeout=0).close()
    assert not caplog.records
    assert pool.stats().created == 1


def test_a_policy_that_cannot_be_called_is_refused_when_the_pool_is_made(make_pool: MakePool) -> None:
    with pytest.raises(SettingsError, match="reuse_policy=5"):
        make_pool(reuse_policy=5)


def test_a_connection_has_no_second_handle(make_pool: MakePool) -> None:
    with make_pool().get_connection() as connection:
        for duplicate in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="two handles"):
                duplicate(connection)
            connection.ping()


@pytest.mark.parametrize("timeout", [float("nan"), "1", True])
def test_a_call_refuses_a_timeout_that_is_no_number(make_pool: MakePool, timeout: Any) -> None:
    """With NaN nothing is ever late: it would wait for ever."""
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection(), pytest.raises(SettingsError, match="timeout="):
        pool.get_connection(timeout=timeout)


def test_maxsize_is_a_bound_under_40_threads(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=2, maxsize=5)
    together: list[int] = []

    def work(index: int) -> int:
        with pool.get_connection(timeout=30) as connection:
            together.append(pool.stats().total)
            connection.execute("select sleep(0.01)")
            return thread_id(connection)

    ids = set(run_threads(40, work))
    assert not any(isinstance(one, BaseException) for one in ids), ids
    assert len(ids) <= 5
    assert max(together) <= 5
    assert pool.stats().in_use == 0


def test_waiters_are_served_in_order_of_arrival(make_pool: MakePool) -> None:
    """Invariant 2."""
    pool = make_pool(size=1, maxsize=1)
    served: list[int] = []
    held = pool.get_connection()

    def work(index: int) -> None:
        with pool.get_connection(timeout=30):
            served.append(index)

    threads = []
    for index in range(20):
        thread = threading.Thread(target=work, args=(index,))
        thread.start()
        threads.append(thread)
        wait_until(lambda: pool.stats().waiting == index + 1, "the thread waits")  # noqa: B023 - used at once
    held.close()
    for thread in threads:
        thread.join()
    assert served == list(range(20))


def test_a_returning_thread_does_not_overtake_a_waiter(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    got = threading.Event()
    release = threading.Event()

    def wait() -> None:
        with pool.get_connection(timeout=30):
            got.set()
            release.wait(30)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: pool.stats().waiting, "the thread waits")
    held.close()
    with pytest.raises(PoolTimeout):
        pool.get_connection(timeout=0)
    assert got.wait(10)
    release.set()
    thread.join()


def test_no_wake_up_is_lost_in_10_000_hand_overs(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2)

    def work(index: int) -> int:
        for _ in range(1250):
            pool.get_connection(timeout=30).close()
        return 1250

    assert run_threads(8, work) == [1250] * 8
    stats = pool.stats()
    assert (stats.borrowed, stats.returned, stats.in_use, stats.waiting) == (10_000, 10_000, 0, 0)


def test_beyond_size_a_connection_is_made_only_when_patience_ends(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=2)
    first = pool.get_connection()
    began = time.monotonic()
    second = pool.get_connection(retry_num=2, retry_interval=0.1)
    assert 0.2 <= time.monotonic() - began < 5
    assert pool.connection_num == 2
    first.close()
    second.close()


def test_a_timeout_names_the_pool_the_numbers_and_the_holders(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, name="shop")
    held = pool.get_connection()
    with pytest.raises(PoolTimeout) as caught:
        pool.get_connection(timeout=0.05)
    error = caught.value
    assert isinstance(error, GetConnectionFromPoolError)
    assert isinstance(error, pymysql.err.OperationalError)
    assert (error.pool, error.in_use, error.idle, error.maxsize) == ("shop", 1, 0, 1)
    assert error.waited >= 0.05
    assert "pool(shop)" in str(error)
    assert "MainThread" in str(error)
    assert "test_a_timeout_names_the_pool" in str(error)
    assert pool.stats().timeouts == 1
    held.close()


def test_a_refused_server_ends_in_an_error_with_the_cause() -> None:
    pool = ConnectionPool(host="127.0.0.1", port=1, user="root", name="gone")
    with pytest.raises(PoolUnavailable, match=r"127\.0\.0\.1:1") as caught:
        pool.get_connection(timeout=0.3)
    assert isinstance(caught.value.__cause__, pymysql.err.OperationalError)
    assert caught.value.__cause__.args[0] == 2003
    assert pool.stats().total == 0
    assert pool.stats().connect_errors >= 1


def test_a_wrong_password_is_told_as_it_is(make_pool: MakePool) -> None:
    pool = make_pool(user="nobody_here", password="secret-word")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        pool.get_connection()
    assert caught.value.args[0] == 1045
    assert "secret-word" not in str(caught.value)
    assert pool.stats().total == 0


def test_a_server_that_never_greets_holds_no_caller_past_the_deadline() -> None:
    """Invariant 14: PyMySQL's connect_timeout does not cover the handshake, the pool's does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pool = ConnectionPool(host="127.0.0.1", port=silent.getsockname()[1], user="root")
        began = time.monotonic()
        with pytest.raises(PoolUnavailable):
            pool.get_connection(timeout=0.4)
        assert time.monotonic() - began < 10
        pool.close()


def test_a_server_that_drips_holds_no_caller_past_the_deadline() -> None:
    """One byte at a time resets a socket's timeout, but not the deadline."""
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as peer:
            peer.send(b"\x4a\x00\x00\x00\x0a")
            while not stop.wait(0.05):
                peer.send(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)  # on a busy machine the caller may give up before it connects
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        pool = ConnectionPool(host="127.0.0.1", port=listener.getsockname()[1], user="root")
        began = time.monotonic()
        with pytest.raises(PoolUnavailable):
            pool.get_connection(timeout=1)
        assert time.monotonic() - began < 10
        stop.set()
        thread.join()
        pool.close()


def test_a_connection_killed_while_idle_is_replaced_unseen(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=2, maxsize=2, pre_create_num=2)
    with pool.get_connection() as connection:
        victim = thread_id(connection)
    admin.kill(victim)
    wait_until(lambda: not running(admin, victim), "the server ended it")
    with pool.get_connection() as connection:
        assert thread_id(connection) != victim
        assert connection.execute("select 1") == 1
    assert dict(pool.stats().discarded) == {"dead": 1}


def running(admin: Any, number: int) -> bool:
    with admin.cursor() as cursor:
        return bool(cursor.execute("select 1 from information_schema.processlist where id = %s", (number,)))


def test_the_second_close_and_any_use_after_it_say_so(make_pool: MakePool) -> None:
    """Invariant 7."""
    pool = make_pool(size=1, maxsize=1)
    stale = pool.get_connection()
    cursor = stale.cursor()
    cursor.execute("select 1")
    stale.close()
    with pool.get_connection() as fresh:
        before = thread_id(fresh)
        assert cursor.fetchone() == (1,)  # rows that were read are the borrower's
        for use in (
            stale.close,
            stale.cursor,
            stale.commit,
            stale.rollback,
            stale.begin,
            stale.ping,
            stale.show_warnings,
            lambda: stale.query("select 2"),
            lambda: stale.select_db("mysql"),
            lambda: stale.autocommit(True),
            lambda: stale.escape("x"),
            lambda: cursor.execute("select 2"),
            lambda: stale.execute("select 2"),
            lambda: stale.execute_query("select 2"),
            stale.__enter__,
        ):
            with pytest.raises(pymysql.err.Error):
                use()
        here = "test_the_second_close_and_any_use_after_it_say_so"
        with pytest.raises(ReturnConnectionToPoolError, match=f"borrowed at .*{here}, and given back at .*{here}"):
            stale.close()
        assert not stale.open
        assert thread_id(fresh) == before
        assert fresh.execute("select 3") == 1
    assert pool.stats().idle == 1


def test_whole_stacks_are_told_when_asked_for(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, record_stacks=True)

    def borrow() -> Any:
        return pool.get_connection()

    stale = borrow()
    stale.close()
    with pytest.raises(ReturnConnectionToPoolError, match=r"(?s)in borrow.*given back.*stale\.close\(\)"):
        stale.ping()


def test_at_exit_the_server_is_told_goodbye(server: DevServer, admin: Any) -> None:
    script = (
        "import json, sys; from pymysqlpool import ConnectionPool;"
        "pool = ConnectionPool(**json.loads(sys.argv[1]), pre_create_num=3, size=3)"
    )

    def aborted() -> int:
        with admin.cursor() as cursor:
            cursor.execute("show global status like 'Aborted_clients'")
            return int(cursor.fetchone()[1])

    before = aborted()
    arguments = json.dumps({**server.connect_args, "ssl_disabled": True})
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, arguments], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert aborted() == before


def test_each_checkout_is_a_fresh_object(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    first = pool.get_connection()
    first.note = "mine"  # type: ignore[attr-defined]
    first.close()
    second = pool.get_connection()
    assert second is not first
    assert not hasattr(second, "note")
    second.close()


def new_ledger(admin: Any) -> None:
    admin.cursor().execute("drop table if exists ledger")
    admin.cursor().execute("create table ledger (id int primary key) engine=innodb")


def test_a_good_block_commits_and_a_bad_one_rolls_back(make_pool: MakePool, admin: Any) -> None:
    new_ledger(admin)
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with pool.get_connection() as connection:
        connection.execute("insert into ledger values (1)")
    with pytest.raises(ZeroDivisionError), pool.get_connection() as connection:
        connection.execute("insert into ledger values (2)")
        1 / 0  # noqa: B018
    with pytest.raises(pymysql.err.IntegrityError), pool.get_connection() as connection:
        connection.execute("insert into ledger values (3)")
        connection.execute("insert into ledger values (1)")
    connection = pool.get_connection()
    connection.execute("insert into ledger values (4)")
    connection.close()  # nothing was committed
    with admin.cursor() as cursor:
        cursor.execute("select id from ledger")
        assert cursor.fetchall() == ((1,),)
    assert pool.stats().created == 1, "each of these connections was kept"


def test_a_begun_transaction_is_committed_by_a_good_block_under_autocommit(make_pool: MakePool, admin: Any) -> None:
    new_ledger(admin)
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    with pytest.raises(pymysql.err.IntegrityError), pool.get_connection() as connection:
        connection.begin()
        connection.execute("insert into ledger values (1)")
        connection.execute("insert into ledger values (1)")
    with admin.cursor() as cursor:
        assert cursor.execute("select id from ledger") == 0, "half a transaction was committed"


def test_a_statement_abandoned_half_way_is_discarded_without_draining(make_pool: MakePool) -> None:
    """Invariant 10: millions of rows are left unread, and no caller waits for them."""
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    cursor = connection.cursor(pymysql.cursors.SSCursor)
    cursor.execute("select 1 from {0} a, {0} b, {0} c".format("information_schema.collations"))
    assert cursor.fetchone() == (1,)
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 1
    assert dict(pool.stats().discarded) == {"interrupted": 1}
    with pytest.raises(ReturnConnectionToPoolError):
        cursor.fetchone()
    del cursor
    gc.collect()
    with pool.get_connection() as connection:
        assert connection.execute_query("select 42") == ((42,),)


def test_a_lease_that_was_dropped_is_reclaimed_and_logged(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 11."""
    pool = make_pool(size=1, maxsize=1)
    pool.get_connection()
    gc.collect()
    with pool.get_connection(timeout=5) as connection:
        assert connection.execute("select 1") == 1
    assert pool.stats().leaked == 1
    assert [record.getMessage() for record in caplog.records if "never given back" in record.getMessage()]
    assert "test_a_lease_that_was_dropped" in caplog.text


@pytest.mark.parametrize("cursorclass", [pymysql.cursors.Cursor, pymysql.cursors.SSCursor])
@pytest.mark.parametrize("on_its_own_cursor", [True, False])
def test_a_lease_that_was_used_and_dropped_needs_no_garbage_collector(
    make_pool: MakePool, cursorclass: Any, on_its_own_cursor: bool
) -> None:
    pool = make_pool(size=1, maxsize=1)
    gc.collect()
    gc.disable()
    try:
        connection = pool.get_connection()
        cursor = connection.cursor(cursorclass)
        cursor.execute("select 1 union select 2")
        assert cursor.fetchone() == (1,)
        if on_its_own_cursor:
            cursor.close()
            connection.execute("select 3")
        del cursor, connection
        pool.get_connection(timeout=5).close()
    finally:
        gc.enable()
    assert pool.stats().leaked == 1


def test_the_lease_of_a_dead_thread_is_reclaimed_when_a_caller_waits(make_pool: MakePool) -> None:
    """Invariant 11."""
    pool = make_pool(size=1, maxsize=1)
    kept: list[Any] = []
    thread = threading.Thread(target=lambda: kept.append(pool.get_connection()))
    thread.start()
    thread.join()
    with pool.get_connection(timeout=5) as connection:
        assert connection.execute("select 1") == 1
    assert pool.stats().leaked == 1
    with pytest.raises(pymysql.err.Error):
        kept[0].cursor().execute("select 1")
    kept[0].close()


def test_a_lease_passed_on_to_a_living_thread_is_not_reclaimed(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    kept: list[Any] = []
    thread = threading.Thread(target=lambda: kept.append(pool.get_connection()))
    thread.start()
    thread.join()
    kept[0].execute("select 1")
    with pytest.raises(PoolTimeout):
        pool.get_connection(timeout=0.6)
    kept[0].close()
    assert pool.stats().leaked == 0


def test_a_lease_whose_borrower_lives_is_not_reclaimed_when_its_helper_has_ended(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    lease = pool.get_connection()
    lease.begin()
    helper = threading.Thread(target=lambda: lease.execute("set @x = 1"))
    helper.start()
    helper.join()
    with pytest.raises(PoolTimeout, match=r"held for .* by a thread that has ended"):
        pool.get_connection(timeout=0.6)  # looks for the threads that have ended
    assert lease.execute_query("select @x", return_one=True) == (1,)
    assert pool.stats().leaked == 0


def test_a_dead_server_is_noticed_and_the_pool_recovers(make_pool: MakePool) -> None:
    with DevServer() as own:
        pool = make_pool(**own.connect_args, size=3, maxsize=3, pre_create_num=3)
        own.kill()
        with pytest.raises(PoolUnavailable):
            pool.get_connection(timeout=0.3)
        own.start()
        with pool.get_connection(timeout=10) as connection:
            assert connection.execute("select 1") == 1
        assert pool.stats().in_use == 0


def test_close_refuses_borrowers_fails_waiters_and_cuts_off_the_late(make_pool: MakePool, admin: Any) -> None:
    """Invariant 12."""
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            pool.get_connection(timeout=30)
        except GetConnectionFromPoolError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: pool.stats().waiting, "the thread waits")
    pool.close(timeout=0)
    thread.join()
    assert isinstance(failures[0], PoolClosed)
    with pytest.raises(PoolClosed, match="closed"):
        pool.get_connection()
    with pytest.raises(pymysql.err.Error):
        held.cursor().execute("select 1")
    held.close()
    assert pool.stats().total == 0
    pool.close()


def test_close_waits_for_a_lent_connection(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    closer = threading.Thread(target=pool.close)
    closer.start()
    wait_until(lambda: "closing" in repr(pool), "the pool is closing")
    assert held.execute("select 1") == 1
    held.close()
    closer.join()
    assert "closed size=0/1" in repr(pool)


def test_drain_renews_every_connection_without_refusing_a_borrow(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, pre_create_num=2)
    held = pool.get_connection()
    before = thread_id(held)
    pool.drain()
    assert held.execute("select 1") == 1
    held.close()
    with pool.get_connection() as connection:
        assert thread_id(connection) > before
    assert dict(pool.stats().discarded) == {"generation": 2}


def test_con_lifetime_ends_a_connection(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, con_lifetime=0.05)
    with pool.get_connection() as connection:
        before = thread_id(connection)
        connection.execute("select sleep(0.06)")
    with pool.get_connection() as connection:
        assert thread_id(connection) != before
    assert dict(pool.stats().discarded) == {"expired": 1}


def test_max_waiting_refuses_at_once(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, max_waiting=0)
    held = pool.get_connection()
    began = time.monotonic()
    with pytest.raises(PoolOverloaded, match="max_waiting=0"):
        pool.get_connection(timeout=20)
    assert time.monotonic() - began < 5
    assert pool.stats().rejected == 1
    held.close()


def test_several_pools_live_side_by_side(make_pool: MakePool, connect_args: dict[str, Any]) -> None:
    one = make_pool(name="one")
    other = make_pool()
    assert one.name == "one"
    assert other.name == f"127.0.0.1-{connect_args['port']}-root-test"
    with one.get_connection() as a, other.get_connection() as b:
        assert thread_id(a) != thread_id(b)
    assert one.size == other.size == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"size": -1}, "size=-1"),
        ({"size": 5, "maxsize": 3}, "size=5"),
        ({"maxsize": "many"}, "maxsize='many'"),
        ({"pre_create_num": -1}, "pre_create_num=-1"),
        ({"timeout": -1}, "timeout=-1"),
        ({"reset": "sometimes"}, "reset='sometimes'"),
        ({"con_lifetime": "long"}, "con_lifetime='long'"),
        ({"max_sise": 3}, "max_sise"),
        ({"defer_connect": True}, "defer_connect"),
        ({"database": "a", "db": "b"}, "database and db"),
        ({"on_connect": 3}, "on_connect=3"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], word: str) -> None:
    """Invariant 17."""
    with pytest.raises(SettingsError, match=word):
        ConnectionPool(host="127.0.0.1", **options)


def test_repr_and_errors_keep_the_secret(make_pool: MakePool) -> None:
    """Invariant 16."""
    pool = make_pool(user="someone", password="very-secret", name="p")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        pool.get_connection()
    assert repr(pool) == "<ConnectionPool 'p' new size=0/100 in_use=0 idle=0 waiting=0>"
    for text in (repr(pool), repr(pool.stats()), str(caught.value), repr(pool._settings)):
        assert "very-secret" not in text


def test_one_tls_context_serves_all_connections_of_a_pool(make_pool: MakePool, monkeypatch: Any) -> None:
    import ssl

    built: list[Any] = []
    build = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **kwargs: built.append(kwargs) or build(**kwargs))
    pool = make_pool(size=3, pre_create_num=3, ssl_disabled=None)
    assert pool.size == 3
    assert len(built) <= 1


def test_pymysqlpool_connection_is_a_real_pymysql_connection(make_pool: MakePool) -> None:
    pool = make_pool()
    with pool.get_connection() as connection:
        assert isinstance(connection, pymysql.connections.Connection)
        assert isinstance(connection, pymysqlpool.Connection)
        with connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("select 1 as x")
            assert cursor.fetchall() == [{"x": 1}]
