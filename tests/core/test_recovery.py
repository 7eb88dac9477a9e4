"""A server that comes back under load: how many log in to it at once. Bounds on numbers, not on time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool._pool.backoff import LONGEST_DELAY, LONGEST_DELAY_REFUSED, ConnectBackoff
from pymysqlpool.failures import Server
from tests.conftest import MakePool
from tests.proxy import Proxy
from tests.support import wait_until

THREADS = 40
REFUSED = pymysql.err.OperationalError(2003, "refused")
FULL = pymysql.err.OperationalError(1040, "too many connections")


def fill(backoff: ConnectBackoff, now: float) -> int:
    """How many may connect at once, with no attempt before."""
    connecting = 0
    while connecting < 1000 and backoff.may_connect(connecting, now):
        connecting += 1
    return connecting


def test_while_all_is_well_the_gate_holds_no_caller_back() -> None:
    assert fill(ConnectBackoff(), 0.0) == 1000


@pytest.mark.parametrize(
    ("error", "longest"), [(REFUSED, LONGEST_DELAY_REFUSED), (FULL, LONGEST_DELAY), (OSError(), LONGEST_DELAY)]
)
def test_while_the_server_is_down_one_tries_and_only_after_the_delay(error: Exception, longest: float) -> None:
    backoff = ConnectBackoff()
    now, delays = 0.0, []
    for _ in range(12):
        backoff.record_failure(now, error, Server.DOWN)
        assert not backoff.may_connect(0, now)
        delays.append(backoff.next_attempt - now)
        now = backoff.next_attempt
        assert fill(backoff, now) == 1
    assert all(delay <= longest * 1.2001 for delay in delays)
    assert delays[-1] >= longest * 0.7999
    assert delays[0] < delays[2] < delays[-1] * 1.51, "they grow"


def test_the_delays_of_two_pools_differ() -> None:
    """Or the pools of a hundred processes would all try in the same instant."""
    delays = set()
    for _ in range(20):
        backoff = ConnectBackoff()
        backoff.record_failure(0.0, REFUSED, Server.DOWN)
        delays.add(backoff.next_attempt)
    assert len(delays) > 1


def test_from_its_return_on_one_more_may_connect_than_have_succeeded() -> None:
    backoff = ConnectBackoff()
    backoff.record_failure(0.0, REFUSED, Server.DOWN)
    rounds = []
    while (at_once := fill(backoff, 10.0)) < 1000:
        rounds.append(at_once)
        for _ in range(at_once):
            backoff.record_success(10.0, began=9.9)
    assert rounds == [1, 2, 4, 8, 16, 32, 64]


def test_a_failure_on_the_way_begins_anew() -> None:
    backoff = ConnectBackoff()
    backoff.record_failure(0.0, REFUSED, Server.DOWN)
    for _ in range(9):
        backoff.record_success(10.0, began=9.9)
    assert fill(backoff, 10.0) == 10
    backoff.record_failure(10.0, REFUSED, Server.DOWN)
    assert fill(backoff, 20.0) == 1
    backoff.record_success(10.0, began=9.9)
    assert fill(backoff, 20.0) == 2


def test_attempts_that_fail_together_are_one_failure() -> None:
    """Of a server that takes every second one the refusals come first; three of them do not prove it down."""
    backoff = ConnectBackoff()
    for moment in range(8):
        backoff.record_failure(10.0 + moment / 1000, REFUSED, Server.DOWN, began=9.0)
    assert not backoff.is_down(alive=1)
    assert backoff.is_down(alive=0)
    backoff.record_success(10.0, began=9.9)
    backoff.record_failure(10.1, REFUSED, Server.DOWN, began=9.0)
    assert not backoff.failing, "others that began later have succeeded"
    for moment in (11.0, 12.0, 13.0):
        backoff.record_failure(moment, REFUSED, Server.DOWN, began=moment - 0.1)
    assert backoff.is_down(alive=1)


def test_beside_an_attempt_that_hears_nothing_for_half_a_second_another_may_be_made() -> None:
    backoff = ConnectBackoff()
    backoff.record_failure(0.0, REFUSED, Server.DOWN)
    backoff.record_attempt(10.0)
    assert not backoff.may_connect(1, 10.4)
    assert backoff.may_connect(1, 10.5)
    backoff.record_attempt(10.5)
    assert not backoff.may_connect(2, 10.9)


def test_of_several_attempts_without_an_answer_the_youngest_is_made_anew_every_half_second() -> None:
    """All of the capacity may be taken by attempts on flows that the network has forgotten."""
    backoff = ConnectBackoff()
    assert not backoff.is_overtaken(10.0, [9.0], 10.4), "it is young"
    assert backoff.is_overtaken(10.0, [9.0, 8.0], 10.5)
    assert not backoff.is_overtaken(9.0, [10.0, 8.0], 10.5), "a younger one is"
    assert not backoff.is_overtaken(9.0, [], 15.0), "a server may be slow to greet, so a sole one has its whole time"


def test_a_success_shows_that_earlier_attempts_without_an_answer_are_on_lost_flows() -> None:
    backoff = ConnectBackoff()
    backoff.record_success(20.0, began=19.9)
    assert backoff.is_overtaken(10.0, [], 20.1)
    assert not backoff.is_overtaken(19.95, [], 20.6), "it began after that one"
    backoff.record_success(26.0, began=21.0)
    assert not backoff.is_overtaken(20.0, [], 27.0), "logins take five seconds here"
    assert backoff.is_overtaken(20.0, [], 35.1)


def test_a_full_server_is_not_down_to_a_pool_that_has_connections() -> None:
    backoff = ConnectBackoff()
    for moment in range(10):
        backoff.record_failure(float(moment), FULL, Server.FULL)
    assert not backoff.is_down(alive=1)
    assert backoff.is_down(alive=0)


class Logins:
    """Counts the logins of a pool that are going on, and what each of them saw when it began."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._lock = threading.Lock()
        self._log_in: Callable[..., Any] = pool._connector.make_wire
        self.going_on = 0
        self.done = 0
        self.begun: list[tuple[int, int]] = []  # going on, this one included; succeeded since the last failure
        pool._connector.make_wire = self._counted  # type: ignore[method-assign]

    def _counted(self, *arguments: Any) -> Any:
        with self._lock:
            self.going_on += 1
            self.begun.append((self.going_on, self.done))
        try:
            wire = self._log_in(*arguments)
        except BaseException:
            with self._lock:
                self.going_on -= 1
                self.done = 0
            raise
        with self._lock:
            self.going_on -= 1
            self.done += 1
        return wire


def test_40_threads_do_not_storm_a_server_that_comes_back(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=THREADS, maxsize=THREADS)
    logins = Logins(pool)
    stop = threading.Event()
    good = [0] * THREADS

    def work(index: int) -> None:
        while not stop.is_set():
            connection = pool.get_connection(timeout=40)
            try:
                connection.cursor().execute("select sleep(0.01)")
                good[index] += 1
            except pymysql.err.MySQLError:
                pass  # it was in flight
            finally:
                connection.close()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(good), "every thread has worked", timeout=20)
        proxy.refusing = True
        proxy.cut()
        wait_until(
            lambda: pool._backoff.failing and logins.going_on == 0 and pool.stats().waiting == THREADS,
            "all wait for the server",
            timeout=20,
        )
        before, tries = sum(good), len(logins.begun)
        proxy.refusing = False
        wait_until(lambda: sum(good) > before + 20 * THREADS, "work goes on", timeout=30)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    recovery = logins.begun[tries:]
    assert all(going_on <= 1 + done for going_on, done in recovery), recovery
    assert max(going_on for going_on, _ in recovery) <= THREADS // 2
    assert len(recovery) <= THREADS + 5, "no login is made twice; a few tries failed before"
    assert pool.stats().in_use == 0
