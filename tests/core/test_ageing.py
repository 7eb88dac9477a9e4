"""The life of a connection: age, idleness, keepalive, growth; with a background thread and without one."""

from __future__ import annotations

import threading
import time

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool._pool.slot import Slot
from tests.conftest import MakePool
from tests.proxy import Proxy
from tests.support import Bolt, wait_until


def borrow_all(pool: ConnectionPool, number: int) -> list[int]:
    """Borrow so many at once and give them back; their sessions, the last one returned at the end."""
    leases = [pool.get_connection(0, 0, timeout=10) for _ in range(number)]
    sessions = [lease.thread_id() for lease in leases]
    for lease in leases:
        lease.close()
    return sessions


def is_due(pool: ConnectionPool) -> None:
    """The next returning thread looks after the idle ones: it does so at most once a second."""
    pool._tend_at = 0.0


def test_connections_made_together_do_not_die_together(make_pool: MakePool) -> None:
    pool = make_pool(size=20, con_lifetime=1000)
    borrow_all(pool, 20)
    slots: list[Slot] = pool._ledger.slots()
    ages = sorted(slot.expires_at - slot.since for slot in slots)
    assert len(set(ages)) == 20
    assert ages[-1] - ages[0] > 5, "they are spread"
    assert ages[0] > 900
    assert ages[-1] <= 1001 + slots[-1].since - slots[0].since


@pytest.mark.parametrize("lifetime", [0, None, -1])
def test_without_a_lifetime_none_expires(make_pool: MakePool, lifetime: float | None) -> None:
    pool = make_pool(size=1, con_lifetime=lifetime)
    borrow_all(pool, 1)
    assert pool._ledger.slots()[0].expires_at == float("inf")


def test_the_last_one_returned_is_lent_first_so_that_the_rest_can_rest(make_pool: MakePool) -> None:
    pool = make_pool(size=3)
    *_, last = borrow_all(pool, 3)
    assert [borrow_all(pool, 1)[0] for _ in range(5)] == [last] * 5


def test_shrinking_stops_at_size_and_takes_the_longest_idle(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=5, max_idle=0.0)
    sessions = borrow_all(pool, 5)
    is_due(pool)
    borrow_all(pool, 1)
    assert dict(pool.stats().discarded) == {"idle": 3}
    assert set(borrow_all(pool, 2)) == set(sessions[3:])
    is_due(pool)
    borrow_all(pool, 1)
    assert pool.connection_num == 2


def test_idle_ones_that_are_too_old_are_closed_by_the_return_of_another(make_pool: MakePool) -> None:
    pool = make_pool(size=3)
    borrow_all(pool, 3)
    oldest = pool._ledger.idle_slots()[0]
    oldest.expires_at = 0.0
    is_due(pool)
    borrow_all(pool, 1)
    assert dict(pool.stats().discarded) == {"expired": 1}
    assert oldest not in pool._ledger.idle_slots()


def test_a_keepalive_pings_in_a_thread_of_its_own(make_pool: MakePool) -> None:
    pool = make_pool(size=2, keepalive=0.001)
    borrow_all(pool, 2)
    silent = pool._ledger.idle_slots()[0]
    idle_since = silent.since
    is_due(pool)
    borrow_all(pool, 1)
    assert silent.since == idle_since, "the thread that returns another connection waits for no answer"
    wait_until(lambda: silent.since > idle_since, "it was pinged")
    assert pool.connection_num == 2
    assert dict(pool.stats().discarded) == {}


@pytest.mark.parametrize("wants", ["a connection", "the end"])
def test_a_keepalive_without_an_answer_holds_up_no_caller(make_pool: MakePool, proxy: Proxy, wants: str) -> None:
    """The only connection there may be is being pinged, and its flow is lost."""
    pool = make_pool(port=proxy.port, size=1, maxsize=1, keepalive=0.1)
    borrow_all(pool, 1)
    proxy.forget()
    wait_until(lambda: proxy.swallowed, "the ping is swallowed")
    began = time.monotonic()
    if wants == "a connection":
        borrow_all(pool, 1)
        assert dict(pool.stats().discarded) == {"dead": 1}
    else:
        pool.close()
    assert time.monotonic() - began < 0.9, "a check without an answer takes a second"


def test_a_keepalive_without_an_answer_has_the_others_asked_before_they_are_lent(
    make_pool: MakePool, proxy: Proxy
) -> None:
    pool = make_pool(port=proxy.port, size=4, maxsize=4, keepalive=0.5, read_timeout=0.3)
    borrow_all(pool, 4)
    proxy.forget()
    wait_until(lambda: dict(pool.stats().discarded), "the first one is found dead")
    for _ in range(4):
        with pool.get_connection(timeout=10) as connection:
            assert connection.execute("select 1") == 1


def test_with_a_background_thread_it_happens_without_a_borrow(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=3, max_idle=0.0, background=True)
    before = set(threading.enumerate())
    assert len(borrow_all(pool, 3)) == 3
    assert [thread.daemon for thread in set(threading.enumerate()) - before] == [True]
    wait_until(lambda: pool.connection_num == 1, "it shrank by itself")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_background_thread_that_a_hook_has_ended_is_replaced(make_pool: MakePool) -> None:
    struck: list[str] = []

    def strike_once(reason: str) -> None:
        struck.append(reason)
        if len(struck) == 1:
            raise Bolt

    pool = make_pool(size=1, maxsize=3, max_idle=0.0, background=True, on_discard=strike_once)
    borrow_all(pool, 3)
    first = pool._life.maintenance
    first.join(10)
    borrow_all(pool, 3)
    assert pool._life.maintenance is not first
    wait_until(lambda: pool.connection_num == 1, "it shrank by itself")


def test_where_no_thread_can_be_started_borrowers_look_after_the_pool(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a limit of the system, or in WebAssembly."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = make_pool(size=1, maxsize=3, max_idle=0.0, background=True)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    borrow_all(pool, 3)
    is_due(pool)
    borrow_all(pool, 1)
    assert pool.connection_num == 1


def test_nothing_is_started_before_the_first_borrow(make_pool: MakePool) -> None:
    before = set(threading.enumerate())
    pool = make_pool(background=True, keepalive=1.0, max_idle=1.0)
    assert set(threading.enumerate()) == before
    assert pool.stats().total == 0


def test_none_is_made_beyond_size_when_one_comes_home_first(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=2)
    held = pool.get_connection()
    session = held.thread_id()
    got: list[int] = []

    def wait() -> None:
        with pool.get_connection(retry_num=60, retry_interval=1) as connection:
            got.append(connection.thread_id())

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: pool.stats().waiting, "it waits for one to come back")
    held.close()
    thread.join(20)
    assert got == [session]
    assert pool.stats().created == 1


def test_a_new_one_goes_to_an_earlier_caller_and_its_maker_takes_the_next(make_pool: MakePool) -> None:
    """A caller connects for the queue, not for itself (Invariant 2)."""
    pool = make_pool(size=1, maxsize=2)
    held = pool.get_connection()
    order: list[str] = []
    release = threading.Event()

    def borrow(name: str, patience: float) -> None:
        with pool.get_connection(retry_num=1, retry_interval=patience, timeout=120):
            order.append(name)
            release.wait(20)

    patient = threading.Thread(target=borrow, args=("patient", 60))
    patient.start()
    wait_until(lambda: pool.stats().waiting == 1, "the first waits")
    hasty = threading.Thread(target=borrow, args=("hasty", 0.01))
    hasty.start()
    wait_until(lambda: order, "one is served by the new connection")
    assert order == ["patient"]
    held.close()
    release.set()
    patient.join(20)
    hasty.join(20)
    assert order == ["patient", "hasty"]
