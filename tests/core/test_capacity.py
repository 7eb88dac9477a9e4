"""No slot is lost: hooks that fail, waiters that are killed, leases that are thrown away (Invariants 5 and 11)."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from tests.conftest import MakePool
from tests.support import Bolt, strike, wait_until


def fail(*arguments: Any) -> None:
    raise ZeroDivisionError


def raise_bolt(*arguments: Any) -> None:
    raise Bolt


def half_read(connection: Any) -> None:
    connection.cursor(pymysql.cursors.SSCursor).execute("select 1 union select 2")


def check_all_slots(pool: ConnectionPool) -> None:
    """Every slot can be used, and nothing is lent or under way."""
    leases = [pool.get_connection(timeout=5) for _ in range(pool.stats().maxsize)]
    for lease in leases:
        assert lease.execute("select 1") == 1
        lease.close()
    stats = pool.stats()
    assert (stats.idle, stats.total, stats.waiting) == (stats.maxsize, stats.maxsize, 0), stats


@pytest.mark.parametrize("hook", [fail, raise_bolt, half_read])
@pytest.mark.parametrize("name", ["on_connect", "on_checkout", "on_checkin"])
def test_a_hook_that_fails_a_few_times_costs_no_slot(
    make_pool: MakePool, name: str, hook: Callable[[Any], None]
) -> None:
    times = iter(range(6))

    def sometimes(connection: Any) -> None:
        if next(times, None) is not None:
            hook(connection)

    pool = make_pool(size=2, maxsize=2, **{name: sometimes})
    for _ in range(6):
        try:
            pool.get_connection(timeout=5).close()
        except (Bolt, ZeroDivisionError, pymysql.err.MySQLError):
            gc.collect()
    check_all_slots(pool)


def test_a_hook_that_is_struck_costs_no_slot_although_its_error_is_kept(make_pool: MakePool) -> None:
    """The traceback of a kept error keeps the lease."""
    times = iter(range(1))
    pool = make_pool(size=1, maxsize=1, on_checkin=lambda _: raise_bolt() if next(times, None) is not None else None)
    connection = pool.get_connection()
    with pytest.raises(Bolt) as kept:
        connection.close()
    check_all_slots(pool)
    assert dict(pool.stats().discarded) == {"reset failed": 1}
    del kept


@pytest.mark.parametrize("name", ["on_connect", "on_checkout", "on_checkin"])
def test_a_hook_whose_statement_does_not_end_is_bounded(make_pool: MakePool, name: str) -> None:
    """As everything of a borrow by its timeout, and everything of a return by reset_timeout."""
    times = iter(range(1))

    def sleep(connection: Any) -> None:
        if next(times, None) is not None:
            connection.query("select sleep(20)")

    pool = make_pool(size=1, maxsize=1, reset_timeout=0.5, **{name: sleep})
    began = time.monotonic()
    with suppress(pymysql.err.OperationalError):
        pool.get_connection(timeout=0.7).close()
    assert time.monotonic() - began < 5
    check_all_slots(pool)


def test_a_hook_at_checkout_that_sends_nothing_leaves_its_lease_unused(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, on_checkout=lambda connection: str(connection), read_timeout=3)
    with pool.get_connection() as connection:
        assert type(connection).__qualname__ in ("UnusedLease", "SpentLease")
        assert connection.execute("select 1") == 1
        assert connection._sock.gettimeout() == 3
        assert connection._deadline is None


def test_what_a_hook_sends_at_checkout_costs_no_reset(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, on_checkout=lambda connection: connection.query("select 1"), read_timeout=3)
    for _ in range(2):
        with pool.get_connection(timeout=0) if pool.stats().idle else pool.get_connection() as connection:
            assert connection._sock.gettimeout() == 3
            assert connection.execute("select 1") == 1
    assert pool.stats().reset == 0


@pytest.mark.parametrize("hook", [fail, raise_bolt])
def test_on_discard_that_fails_costs_no_slot(make_pool: MakePool, hook: Callable[[], None]) -> None:
    times = iter(range(3))
    pool = make_pool(size=2, maxsize=2, on_discard=lambda reason: hook() if next(times, None) is not None else None)
    for _ in range(3):
        connection = pool.get_connection(timeout=5)
        connection.cursor(pymysql.cursors.SSCursor).execute("select 1 union select 2")
        try:
            connection.close()
        except Bolt:
            assert hook is raise_bolt
    check_all_slots(pool)


@pytest.mark.parametrize("name", ["user", "password", "host"])
def test_a_credential_that_cannot_be_had_reaches_the_borrower_and_costs_no_slot(
    make_pool: MakePool, name: str, connect_args: dict[str, Any]
) -> None:
    args: dict[str, Any] = {}

    def ask() -> Any:
        if not args:
            raise LookupError("the vault is shut")
        return args[name]

    pool = make_pool(size=1, maxsize=1, **{name: ask})
    for _ in range(3):
        with pytest.raises(LookupError, match="the vault is shut"):
            pool.get_connection(timeout=5)
    assert pool.stats().total == 0
    args.update({"user": "root", "password": connect_args["password"], "host": "127.0.0.1"})
    check_all_slots(pool)


def test_a_set_up_that_fails_for_one_leaves_the_right_to_the_next(make_pool: MakePool, admin: Any) -> None:
    """The first in the queue fails at its init_command; the second one may connect at once."""
    with admin.cursor() as cursor:
        cursor.execute("drop table if exists permits")
        cursor.execute("create table permits (id int primary key) engine=innodb")
    pool = make_pool(size=1, maxsize=1, init_command="insert into permits values (1)", autocommit=True)
    pool.get_connection(timeout=5).close()
    pool.drain()
    results: list[Any] = []

    def borrow() -> None:
        try:
            with pool.get_connection(timeout=20) as connection:
                results.append(connection.execute("select 1"))
        except pymysql.err.IntegrityError as error:
            results.append(error.args[0])

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [1062] * 4
    assert pool.stats().total == 0


def test_a_waiter_that_is_killed_leaves_the_queue_and_costs_no_slot(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    ended: list[str] = []

    def wait(name: str) -> None:
        try:
            with pool.get_connection(timeout=40):
                ended.append(f"{name} was served")
        except Bolt:
            ended.append(f"{name} was killed")

    threads = []
    for number, name in enumerate(["first", "second", "third"]):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        wait_until(lambda: pool.stats().waiting == number + 1, "it waits")  # noqa: B023 - used at once
    strike(threads[0])
    wait_until(lambda: pool.stats().waiting == 2, "the killed one has left the queue")
    held.close()
    for thread in threads:
        thread.join(20)
    assert ended == ["first was killed", "second was served", "third was served"]
    check_all_slots(pool)


def test_a_finalizer_sends_nothing_and_closes_nothing(
    make_pool: MakePool, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It may run at any instant in any thread; the next caller that needs the slot takes it back, and logs it once."""
    pool = make_pool(size=1, maxsize=1)
    lease = pool.get_connection()
    lease.begin()
    session = lease.thread_id()
    sock = pool._ledger.slots()[0].wire.sock
    blocked = threading.Lock()

    def refuse(event: str, arguments: Any) -> None:
        if blocked.locked() and event.startswith("socket."):
            raise AssertionError(f"{event} in a finalizer")

    sys.addaudithook(refuse)
    with blocked:
        del lease
        gc.collect()
    assert sock.fileno() >= 0, "it is still connected"
    assert pool.stats().in_use == 1
    with pool.get_connection(timeout=5) as connection:
        assert connection.thread_id() != session
    told = [record.getMessage() for record in caplog.records if "never given back" in record.getMessage()]
    assert len(told) == 1
    assert "test_a_finalizer_sends_nothing" in told[0]
    assert pool.stats().leaked == 1
    assert sock.fileno() == -1


class StrikeAsItGoes:
    """Raises in this thread, at the next bytecode after it was collected; no bytecode runs for that itself."""

    __slots__ = ("__del__",)

    def __init__(self) -> None:
        thread = ctypes.c_ulong(threading.get_ident())
        self.__del__ = partial(ctypes.pythonapi.PyThreadState_SetAsyncExc, thread, ctypes.py_object(Bolt))


@pytest.mark.parametrize("use", [lambda lease: None, lambda lease: lease.ping()], ids=["unused", "used"])
def test_a_lease_whose_finalizer_is_struck_is_taken_back_too(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, use: Callable[[Any], None]
) -> None:
    struck: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: struck.append(unraisable.exc_type))
    pool = make_pool(size=1, maxsize=1)
    last_things = [(pool.get_connection(), StrikeAsItGoes())]  # collected from right to left
    use(last_things[0][0])
    last_things.clear()
    assert struck == [Bolt], "nowhere else, so in the finalizer"
    with pool.get_connection(timeout=5) as connection:
        assert connection.execute("select 1") == 1
    assert pool.stats().leaked == 1
    assert "test_a_lease_whose_finalizer_is_struck" in caplog.text


def test_thirty_leases_thrown_away_cost_no_slot_and_no_session(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=2, maxsize=2)
    for _ in range(30):
        pool.get_connection(timeout=20)
    check_all_slots(pool)
    assert pool.stats().leaked == 30
    kept = {slot.wire.attributes()["server_thread_id"][0] for slot in pool._ledger.slots()}
    with admin.cursor() as cursor:

        def sessions() -> set[int]:
            others = "id <> connection_id() and command <> 'Daemon'"
            cursor.execute(f"select id from information_schema.processlist where {others}")
            return {session for (session,) in cursor.fetchall()}

        wait_until(lambda: sessions() == kept, "the others have ended")


def test_a_connection_of_an_event_loop_that_has_ended_is_taken_back_when_a_caller_waits(make_pool: MakePool) -> None:
    """As one of a thread that has ended."""
    pool = make_pool(size=1, maxsize=1)
    kept: list[Any] = []

    async def borrow() -> None:
        connection = await AsyncConnectionPool(pool=pool).get_connection()
        async with connection.cursor() as cursor:
            await cursor.execute("select 1")
        kept.append(connection)

    asyncio.run(borrow())
    check_all_slots(pool)
    assert dict(pool.stats().discarded) == {"leaked": 1}
