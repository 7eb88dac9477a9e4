"""Which pool an alias uses (must-handle 8 to 10, and 12 to 16: what it costs to borrow)."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pymysql
import pytest
from django.db import OperationalError
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from pymysqlpool import PoolTimeout
from pymysqlpool.devserver import DevServer
from pymysqlpool.secrets import reveal
from pymysqlpool_django import pools
from tests.support import Questions, run_threads, wait_until

from .conftest import ISOLATION, Connect


def ask(wrapper: Any, question: str, *args: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute(question, args)
        return cursor.fetchone()[0]


@pytest.fixture
def other_database(admin: Any) -> Any:
    with admin.cursor() as cursor:
        cursor.execute("CREATE DATABASE other_db")
        yield "other_db"
        cursor.execute("DROP DATABASE other_db")


def test_a_name_changed_in_place_is_never_served_from_the_old_pool(connect: Connect, other_database: str) -> None:
    """As Django's test runner does it, after a query in AppConfig.ready()."""
    wrapper = connect()
    assert ask(wrapper, "SELECT DATABASE()") == "test"
    old = wrapper.pool
    wrapper.close()
    wrapper.settings_dict["NAME"] = other_database
    assert ask(wrapper, "SELECT DATABASE()") == other_database
    assert wrapper.pool is not old
    assert old.stats().total == 0, "an idle connection to the old database would block DROP DATABASE"


def test_a_lent_connection_of_the_old_settings_is_closed_when_it_comes_home(
    connect: Connect, other_database: str
) -> None:
    first, second = connect(), connect()
    first.ensure_connection()
    old = first.pool
    second.settings_dict["NAME"] = other_database
    second.ensure_connection()
    assert old.stats().in_use == 1
    first.close()
    assert old.stats().total == 0
    assert old.stats().discarded == {"generation": 1}


def test_wrappers_and_copies_with_equal_settings_share_one_pool(connect: Connect, alias: str) -> None:
    first, second = connect({"max_size": 5}), connect({"max_size": 5})
    assert first.pool is second.pool is first.copy().pool
    assert len(pools.stats()[alias]) == 1
    assert connect({"max_size": 6}).pool is not first.pool
    assert connect({"max_size": 5}, isolation_level="serializable").pool is not first.pool


def test_settings_that_alternate_leave_no_pile_of_pools(connect: Connect, alias: str, other_database: str) -> None:
    for number in range(10):
        wrapper = connect(connect_timeout=5 + number)
        wrapper.ensure_connection()
        wrapper.close()
    assert len(pools.stats()[alias]) <= 2


def test_many_threads_make_one_pool(connect: Connect, alias: str) -> None:
    made = run_threads(8, lambda index: connect().pool)
    assert len(set(map(id, made))) == 1


def test_the_connection_without_a_database_is_never_pooled(connect: Connect) -> None:
    wrapper = connect(CONN_MAX_AGE=60)
    with wrapper._nodb_cursor() as cursor:
        nameless = cursor.db
        assert nameless.alias == NO_DB_ALIAS
        assert nameless.pool is None
        cursor.execute("SELECT DATABASE()")
        assert cursor.fetchone() == (None,)


def test_a_pool_keeps_no_wrapper_alive(connect: Connect, server: DevServer, alias: str) -> None:
    wrapper = connect().copy()
    assert ask(wrapper, "SELECT 1") == 1
    wrapper.close()
    watched = weakref.ref(wrapper)
    del wrapper
    gc.collect()
    assert watched() is None
    assert pools.stats()[alias][0].idle == 1


def test_nothing_is_opened_before_the_first_query(connect: Connect, alias: str) -> None:
    wrapper = connect(HOST="127.0.0.1", PORT=1)
    assert wrapper.pool.stats().total == 0


def test_what_is_lent_is_pymysqls_connection(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    assert isinstance(wrapper.connection, pymysql.connections.Connection)
    assert not hasattr(wrapper.connection, "fileno"), "Celery would close its descriptor"
    assert wrapper.connection.encoders


def test_the_time_zone_leaves_the_pool_alone(connect: Connect) -> None:
    """Django's MySQL backend sets none in the session (must-handle 29)."""
    wrapper = connect(TIME_ZONE="Asia/Tokyo")
    ask(wrapper, "SELECT 1")
    assert wrapper.timezone_name == "Asia/Tokyo"
    assert not wrapper.ensure_timezone()
    assert wrapper.pool.stats().in_use == 1


def test_a_request_with_one_query_costs_one_round_trip(connect: Connect, admin: Any) -> None:
    def request(index: int = 0) -> None:
        wrapper = connect().copy()  # a thread of its own has a wrapper of its own
        assert ask(wrapper, "SELECT 7") == 7
        assert wrapper.mysql_version >= (5,)
        wrapper.close()

    request()
    with Questions(admin).during() as counted:
        for _ in range(10):
            request()
    assert counted == [10]


def test_an_atomic_request_costs_three_round_trips_beside_its_query(connect: Connect, admin: Any) -> None:
    from django.db import connections, transaction

    wrapper = connect()
    connections[wrapper.alias] = wrapper
    try:
        ask(wrapper, "SELECT 1")
        wrapper.close()
        with Questions(admin).during() as counted, transaction.atomic(using=wrapper.alias):
            ask(wrapper, "SELECT 1")
        wrapper.close()
    finally:
        del connections[wrapper.alias]
    assert counted == [4]  # SET AUTOCOMMIT = 0, the query, COMMIT, SET AUTOCOMMIT = 1


@pytest.mark.parametrize("init_command", [None, "SET sql_mode = 'ANSI'", "DO 1"])
def test_a_session_is_set_up_and_stays_so_after_a_reset(connect: Connect, init_command: str | None) -> None:
    changes = {"init_command": init_command} if init_command else {}
    wrapper = connect({"max_size": 1}, isolation_level="serializable", **changes)
    question = (
        f"SELECT CONCAT_WS(' ', {ISOLATION}, @@sql_auto_is_null + 0, @@foreign_key_checks + 0,"
        " @@sql_mode LIKE '%%ANSI%%')"
    )
    expected = f"SERIALIZABLE 0 1 {int('ANSI' in (init_command or ''))}"
    assert ask(wrapper, question) == expected
    session = ask(wrapper, "SELECT CONNECTION_ID()")
    with wrapper.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        cursor.execute("SET foreign_key_checks = 0, sql_mode = 'TRADITIONAL', @x = 1")
    wrapper.close()
    assert ask(wrapper, question) == expected
    assert ask(wrapper, "SELECT @x") is None
    assert ask(wrapper, "SELECT CONNECTION_ID()") == session
    if init_command != "DO 1":
        assert wrapper.pool.stats().reset == 1


def test_set_up_statements_run_when_asked_for(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    with CaptureQueriesContext(wrapper) as captured:
        wrapper.init_connection_state()
    assert [one["sql"] for one in captured] == ["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"]


def test_the_pools_own_statements_do_not_show_in_the_query_log(connect: Connect) -> None:
    wrapper = connect()
    wrapper.mysql_server_data  # noqa: B018 - asked once per pool
    wrapper.force_debug_cursor = True
    ask(wrapper, "SELECT 1")
    wrapper.close()
    ask(wrapper, "SELECT 2")
    assert [one["sql"] for one in wrapper.queries] == ["SELECT 1", "SELECT 2"]


def test_a_timeout_is_djangos_operational_error_and_names_the_holders(connect: Connect, alias: str) -> None:
    holder, other = connect({"max_size": 1, "timeout": 1}), connect({"max_size": 1, "timeout": 1})
    holder.ensure_connection()
    with pytest.raises(OperationalError, match=rf"pool\({alias}\).*1 in use.*maxsize=1") as caught:
        other.ensure_connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert "MainThread" in str(caught.value)


def test_connection_created_is_sent_for_each_checkout(connect: Connect) -> None:
    seen: list[Any] = []

    def receiver(sender: Any, connection: Any, **kwargs: Any) -> None:
        seen.append(connection)

    connection_created.connect(receiver)
    try:
        wrapper = connect()
        for _ in range(3):
            wrapper.ensure_connection()
            wrapper.close()
    finally:
        connection_created.disconnect(receiver)
    assert len(seen) == 3
    assert wrapper.pool.stats().created == 1


def test_there_is_a_hook_for_each_physical_connection(connect: Connect) -> None:
    seen: list[Any] = []
    wrapper = connect({"on_connect": seen.append})
    for _ in range(3):
        wrapper.ensure_connection()
        wrapper.close()
    assert len(seen) == 1


def test_a_dead_idle_connection_is_replaced_unseen(connect: Connect, admin: Any) -> None:
    wrapper = connect()
    session = ask(wrapper, "SELECT CONNECTION_ID()")
    wrapper.close()
    with admin.cursor() as cursor:
        cursor.execute(f"KILL {session}")
        gone = "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s"
        wait_until(lambda: cursor.execute(gone, [session]) and cursor.fetchone() == (0,), "the session ends")
    assert ask(wrapper, "SELECT 1") == 1


def test_health_checks_ask_before_lending(connect: Connect, admin: Any) -> None:
    wrapper = connect(CONN_HEALTH_CHECKS=True)
    ask(wrapper, "SELECT 1")
    wrapper.close()
    with admin.cursor() as cursor:

        def pings() -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_admin_commands'")
            return int(cursor.fetchone()[1])

        before = pings()
        ask(wrapper, "SELECT 1")
        wrapper.close_if_health_check_failed()
        assert pings() - before == 1


def test_secrets_do_not_print(connect: Connect, caplog: pytest.LogCaptureFixture, server: DevServer) -> None:
    caplog.set_level(logging.DEBUG)
    wrapper = connect({"timeout": 5}, PASSWORD="hunter2")
    with pytest.raises(OperationalError) as caught:
        wrapper.ensure_connection()
    key = pools.PoolKey(wrapper.get_connection_params(), None, True)
    assert "hunter2" not in f"{caught.value!r} {key!r} {wrapper.pool!r} {caplog.text}"


@pytest.mark.parametrize("where", ["PASSWORD", "OPTIONS/init_command", "OPTIONS/pool/max_size", "OPTIONS/ssl/ca"])
def test_a_setting_that_changes_is_noticed_at_the_next_connect(connect: Connect, where: str) -> None:
    wrapper = connect({"max_size": 3}, ssl={"ca": "before"}, init_command="SET @a = 1", PASSWORD="before")

    before = wrapper.pool
    *path, name = where.split("/")
    place = wrapper.settings_dict
    for folder in path:
        place = place[folder]
    place[name] = 4 if name == "max_size" else "after"
    assert wrapper.pool is not before


def test_what_a_caller_does_with_its_parameters_does_not_reach_the_next_one(connect: Connect) -> None:
    """A backend that is derived from this one adds arguments of its own."""
    wrapper = connect({"max_size": 3}, ssl={"ca": "mine"})
    params = wrapper.get_connection_params()
    params["charset"] = "latin1"
    params["ssl"]["ca"] = "another"
    found = reveal(wrapper.get_connection_params())
    assert (found["charset"], found["ssl"]["ca"]) == ("utf8mb4", "mine")
