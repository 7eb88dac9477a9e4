"""What a server's answers say of its role, and that a real server gives such answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pymysqlpool import PoolUnavailable
from pymysqlpool._driver.role import QUESTIONS, read
from pymysqlpool.errors import WrongRole
from pymysqlpool.options import RoleWanted
from tests.conftest import MakePool
from tests.support import Questions, run_threads, wait_until

STANDALONE = {"read_only": "OFF", "innodb_read_only": "OFF", "wsrep_on": "OFF"}
NODE = {**STANDALONE, "wsrep_on": "ON", "wsrep_ready": "ON", "wsrep_local_state": "4"}

SERVERS: list[tuple[str, dict[str, str], set[RoleWanted]]] = [
    ("primary", STANDALONE, {"any", "ready", "primary"}),
    ("MySQL, knows no wsrep_on", {"read_only": "OFF", "super_read_only": "OFF"}, {"any", "ready", "primary"}),
    ("replica", {**STANDALONE, "read_only": "ON"}, {"any", "ready", "replica"}),
    ("MariaDB 12's other kinds of read-only", {**STANDALONE, "read_only": "NO_LOCK"}, {"any", "ready", "replica"}),
    ("Aurora reader", {"read_only": "OFF", "innodb_read_only": "ON"}, {"any", "ready", "replica"}),
    ("Galera node", NODE, {"any", "ready", "primary"}),
    ("Galera node without quorum", {**NODE, "wsrep_ready": "OFF"}, {"any"}),
    ("Galera donor", {**NODE, "wsrep_local_state": "2"}, {"any", "ready"}),
    ("Galera node that joins", {**NODE, "wsrep_local_state": "1"}, {"any"}),
    ("Galera node, read-only", {**NODE, "read_only": "ON"}, {"any", "ready", "replica"}),
    ("built with Galera, not used", {**STANDALONE, "wsrep_ready": "OFF"}, {"any", "ready", "primary"}),
]
ALL: tuple[RoleWanted, ...] = ("any", "ready", "primary", "replica")


@pytest.mark.parametrize(("_name", "values", "fits"), SERVERS, ids=[name for name, _, _ in SERVERS])
def test_a_server_fits_the_roles_that_its_variables_say(
    _name: str, values: dict[str, str], fits: set[RoleWanted]
) -> None:
    role = read([list(values.items())])
    assert {wanted for wanted in ALL if role.fits(wanted)} == fits, role


def test_a_real_server_answers_the_questions_and_is_a_primary_until_it_is_read_only(admin: Any) -> None:
    def asked() -> Any:
        results = []
        for question in QUESTIONS:
            with admin.cursor() as cursor:
                cursor.execute(question)
                results.append(cursor.fetchall())
        return read(results)

    assert asked().fits("primary")
    with admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
    try:
        assert asked().fits("replica")
        assert "read_only=ON" in asked().said
    finally:
        with admin.cursor() as cursor:
            cursor.execute("SET GLOBAL read_only = 0")


@pytest.fixture
def read_only(admin: Any) -> Iterator[Callable[[bool], None]]:
    """Switches the server's `read_only`."""

    def switch(on: bool) -> None:
        with admin.cursor() as cursor:
            cursor.execute(f"SET GLOBAL read_only = {on:d}")

    yield switch
    switch(False)


def test_a_pool_of_a_primary_lends_no_connection_to_a_read_only_server(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    pool = make_pool(role="primary")
    read_only(True)
    with pytest.raises(PoolUnavailable, match="read-only") as refused:
        pool.get_connection(timeout=0.3)
    assert isinstance(refused.value.__cause__, WrongRole)
    assert "read_only=ON" in str(refused.value)
    read_only(False)
    with pool.get_connection(timeout=5) as connection:
        connection.ping()


def test_a_caller_waits_for_a_server_of_the_right_role_within_its_time(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    pool = make_pool(role="primary")
    read_only(True)
    lent: list[Any] = []
    caller = threading.Thread(target=lambda: lent.append(pool.get_connection(timeout=20)))
    caller.start()
    wait_until(lambda: pool.stats().connect_errors, "a refused server")
    read_only(False)
    caller.join(20)
    lent[0].close()


def test_a_server_that_takes_logins_and_is_the_wrong_one_is_asked_with_back_off(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    pool = make_pool(role="primary", size=8, maxsize=8)
    read_only(True)
    began = time.monotonic()
    errors = run_threads(8, lambda _: pool.get_connection(timeout=1.0))
    took = time.monotonic() - began
    assert all(isinstance(error, PoolUnavailable) for error in errors)
    eight_at_once, while_the_delay_grows, one_each = 8, 5, 0.2  # seconds, jitter included
    assert pool.stats().connect_errors <= eight_at_once + while_the_delay_grows + took / one_each


def test_a_pool_of_replicas_lends_none_of_a_server_that_takes_writes(make_pool: MakePool) -> None:
    pool = make_pool(role="replica")
    with pytest.raises(PoolUnavailable, match="takes writes"):
        pool.get_connection(timeout=0.2)


def test_a_borrow_of_a_used_connection_asks_nothing(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(role="ready")
    pool.get_connection().close()
    with Questions(admin).during() as asked:
        pool.get_connection().close()
    assert asked == [0]
