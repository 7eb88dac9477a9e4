"""What each operation costs, in numbers that do not depend on the clock: function calls and round trips.

Python function calls are counted with `sys.setprofile` (calls of C functions are not: they differ between versions of
Python), round trips by a proxy between pool and server (`benchmarks/proxy.py`). Where PyMySQL does part of the work,
its own calls for the same thing are counted in the same test and only what we add is bounded, so that another PyMySQL
or another Python moves both. A negative bound says that we need fewer calls than PyMySQL.

**Changing a bound.** All are upper bounds, in `BOUNDS`, a little above what Python 3.11 to 3.13 needed when they were
set. When a test fails, the message has the number and the functions behind it. If the new calls are worth it, raise
the bound in the same commit and say in its message what they buy; when something becomes cheaper, lower it. Round
trips are exact: one more is a network latency for every user, and needs a reason in the changelog.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pymysql
import pytest

from benchmarks.proxy import Link
from pymysqlpool import ConnectionPool
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool._util import callsite
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from pymysqlpool.reuse import Decision, Facts, Reason, Verdict
from tests.conftest import MakePool
from tests.support import wait_until

pytestmark = pytest.mark.skipif(not HAS_GIL, reason="without a GIL a borrow takes the lock, which costs more calls")

BOUNDS = {
    "borrow and return": 4,
    "borrow and return of a cluster's primary: more than of a pool": 1,
    "borrow that waits": 10,
    "return that serves a waiter": 8,
    "borrow, SELECT 1, return: more than PyMySQL": -56,
    "borrow, UPDATE, commit, return: more than PyMySQL": -16,
    "borrow, SELECT in a transaction, return: more than PyMySQL with ROLLBACK": -57,
    "connect to mariadb: more than PyMySQL": -14,
    "connect to mysql: more than PyMySQL": 18,
}
WARM_UP = 3


def calls(operation: Callable[[], object], warm_up: int = WARM_UP) -> Counter[str]:
    """Python functions that `operation` calls, itself not among them."""
    for _ in range(warm_up):
        operation()
    counted: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            counted[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    gc.disable()  # finalizers of other tests' objects are none of ours
    sys.setprofile(profile)
    try:
        operation()
    finally:
        sys.setprofile(before)
        gc.enable()
    counted[operation.__qualname__] -= 1  # type: ignore[attr-defined]
    return +counted


def check(what: str, ours: Counter[str], theirs: Counter[str] | None = None) -> None:
    found = ours.total() - (theirs or Counter()).total()
    listing = ", ".join(f"{name} {number}" for name, number in (ours - (theirs or Counter())).most_common())
    assert found <= BOUNDS[what], f"{what}: {found} Python calls, at most {BOUNDS[what]} allowed. They are: {listing}"


def select(connection: Any, statement: str = "SELECT 1") -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.fetchall()
    cursor.close()


def update_and_commit(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("UPDATE counted SET v = v + 1")
    cursor.close()
    connection.commit()


def keep_none(facts: Facts) -> Decision:
    """A reuse policy with which each borrow has to connect."""
    return Decision(Verdict.DISCARD, Reason.EXPIRED)


def test_borrow_and_return_without_a_query(make_pool: MakePool) -> None:
    pool = make_pool(size=4, pre_create_num=4)

    def operation() -> None:
        pool.get_connection().close()

    check("borrow and return", calls(operation))


def test_borrow_and_return_of_a_clusters_primary(make_pool: MakePool, server: DevServer) -> None:
    pool = make_pool(size=4, pre_create_num=4)
    where = server.connect_args
    host = {"host": where.pop("host"), "port": where.pop("port")}

    def ours() -> None:
        cluster.primary.get_connection().close()

    def theirs() -> None:
        pool.get_connection().close()

    with Cluster([host], size=4, **where) as cluster:
        # A decision holds for a quarter of a second, which may end in between.
        found = min((calls(ours) for _ in range(5)), key=Counter.total)
        check("borrow and return of a cluster's primary: more than of a pool", found, calls(theirs))


@pytest.mark.parametrize("used", [True, False])
def test_a_borrow_that_waits_and_the_return_that_serves_it(make_pool: MakePool, used: bool) -> None:
    pool = make_pool(size=1)

    def hand_over() -> tuple[Counter[str], Counter[str]]:
        borrows: list[Counter[str]] = []
        lent: list[Any] = []

        def borrow() -> None:
            lent.append(pool.get_connection())

        def wait() -> None:
            callsite.current()  # known from a thread's first borrow on
            borrows.append(calls(borrow, warm_up=0))

        held = pool.get_connection()
        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(lambda: pool.stats().waiting == 1, "a caller waits")
        if used:
            select(held)
        returned = calls(held.close, warm_up=0)
        waiter.join()
        lent[0].close()
        return borrows[0], returned

    found = [hand_over() for _ in range(5)]  # a caller looks around, when it has waited for a quarter of a second
    check("borrow that waits", min((borrow for borrow, _ in found), key=Counter.total))
    check("return that serves a waiter", min((returned for _, returned in found), key=Counter.total))


def test_borrow_select_1_and_return(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, autocommit=True)

    def ours() -> None:
        connection = pool.get_connection()
        select(connection)
        connection.close()

    def theirs() -> None:
        select(admin)

    check("borrow, SELECT 1, return: more than PyMySQL", calls(ours), calls(theirs))


def test_borrow_update_commit_and_return(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1)
    with admin.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS counted (v INT)")

    def ours() -> None:
        connection = pool.get_connection()
        update_and_commit(connection)
        connection.close()

    def theirs() -> None:
        update_and_commit(admin)

    check("borrow, UPDATE, commit, return: more than PyMySQL", calls(ours), calls(theirs))


def test_borrow_select_in_a_transaction_and_return(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, autocommit=False)
    with admin.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS counted (v INT)")

    def ours() -> None:
        connection = pool.get_connection()
        select(connection, "SELECT v FROM counted")
        connection.close()

    def theirs() -> None:
        select(admin, "SELECT v FROM counted")
        admin.rollback()

    check("borrow, SELECT in a transaction, return: more than PyMySQL with ROLLBACK", calls(ours), calls(theirs))
    assert pool.stats().reset > 0


def test_connect(make_pool: MakePool, server: DevServer, connect_args: dict[str, Any]) -> None:
    pool = make_pool(size=1, reuse_policy=keep_none)
    kept: list[Any] = []

    def ours() -> None:
        kept.append(pool.get_connection())

    def theirs() -> None:
        kept.append(pymysql.connect(**connect_args))

    def counted(operation: Callable[[], object]) -> Counter[str]:
        operation()  # the first one of a pool also learns what a fresh session looks like
        kept.pop().close()
        found = []
        for _ in range(20):
            found.append(calls(operation, warm_up=0))
            kept.pop().close()
        return min(found, key=Counter.total)  # a packet that arrives in two parts is read by more calls

    check(f"connect to {server.flavor}: more than PyMySQL", counted(ours), counted(theirs))


# -- round trips -------------------------------------------------------------------------------------------


@pytest.fixture
def link(server: DevServer) -> Iterator[Link]:
    with Link((server.host, server.port)) as link:
        yield link


def round_trips(link: Link, operation: Callable[[], object]) -> tuple[int, int]:
    """How often `operation` waits for the server, and how many packets it sends."""
    link.reset()
    operation()
    return link.round_trips, link.requests


def test_a_clean_cycle_costs_its_query_alone(make_pool: MakePool, link: Link) -> None:
    """Invariant 9."""
    for autocommit in (True, False):
        pool = make_pool(port=link.port, size=1, pre_create_num=1, autocommit=autocommit)

        def cycle(pool: ConnectionPool = pool) -> None:
            with pool.get_connection() as connection:
                select(connection)

        assert round_trips(link, lambda pool=pool: pool.get_connection().close()) == (0, 0)  # type: ignore[misc]
        assert round_trips(link, cycle) == (1, 1)


def test_a_transaction_left_open_costs_one_round_trip_more(make_pool: MakePool, link: Link) -> None:
    pool = make_pool(port=link.port, size=1, pre_create_num=1, autocommit=True)

    def operation() -> None:
        connection = pool.get_connection()
        connection.begin()
        connection.close()

    assert round_trips(link, operation) == (2, 2)


@pytest.mark.parametrize("options", [{}, {"autocommit": True}, {"autocommit": None}], ids=str)
def test_a_connect_is_a_login_and_one_set_up_in_two_round_trips(
    make_pool: MakePool, server: DevServer, link: Link, options: dict[str, Any]
) -> None:
    """From the second connection of a pool on: the first also asks what a fresh session looks like. MySQL is asked what
    the login has given by a statement of its own, in the same round trip."""
    pool = make_pool(port=link.port, size=1, reuse_policy=keep_none, **options)
    pool.get_connection().close()
    link.wait_until_unused()
    lent: list[Any] = []
    packets = 2 if server.flavor == "mariadb" else 3
    assert round_trips(link, lambda: lent.append(pool.get_connection())) == (2, packets)
    lent[0].close()
