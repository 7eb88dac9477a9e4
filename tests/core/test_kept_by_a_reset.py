"""What COM_RESET_CONNECTION keeps does not reach the next borrower (Invariant 8)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.core.dirt import Dirty, sql

LOW = {"user": "kept_low", "password": "pw", "database": None}
PREPARE = "xa start 'kept'; insert into test.kept_rows values (7); xa end 'kept'; xa prepare 'kept'"


@pytest.fixture(scope="module")
def is_mariadb(server: Any) -> bool:
    return bool(server.flavor == "mariadb")


@pytest.fixture(autouse=True)
def prepared(admin: Any) -> Iterator[None]:
    statements = [
        "drop user if exists kept_low@'%'",
        "drop role if exists kept_boss",
        "create role kept_boss",
        "create user kept_low@'%' identified by 'pw'",
        "grant kept_boss to kept_low@'%'",
        "drop table if exists kept_rows, kept_noisy, kept_secret",
        "create table kept_rows (v int) engine=innodb",
        "create table kept_noisy (v int) engine=myisam",
        "create table kept_secret (v int) engine=innodb",
        "grant select on test.kept_secret to kept_boss",
        "drop procedure if exists kept_role",
        "create procedure kept_role() sql security invoker set role kept_boss",
        "grant execute on procedure test.kept_role to kept_low@'%'",
        "drop procedure if exists kept_branch",
        f"create procedure kept_branch() begin {PREPARE}; end",
        "drop procedure if exists kept_harmless",
        "create procedure kept_harmless() select 1",
        "create database if not exists kept_other",
    ]
    sql(*statements)(admin)
    yield
    for _ in range(50):
        with suppress(pymysql.err.MySQLError):
            sql("xa rollback 'kept'")(admin)
            break
    sql("drop user kept_low@'%'", "drop role kept_boss")(admin)


def ask(connection: Any, statement: str) -> Any:
    try:
        connection.execute(statement)
        return connection.fetchall()
    except pymysql.err.MySQLError as error:
        return error.args[0]


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("dirty", ["set role kept_boss", "call test.kept_role()"])
def test_the_privileges_of_a_role_end_with_the_lease(make_pool: MakePool, reset: str, dirty: str) -> None:
    pool = make_pool(size=1, maxsize=1, reset=reset, **LOW)
    with pool.get_connection() as connection:
        assert isinstance(ask(connection, "select * from test.kept_secret"), int)
        connection.execute(dirty)
        assert ask(connection, "select * from test.kept_secret") == ()
    with pool.get_connection() as connection:
        assert isinstance(ask(connection, "select * from test.kept_secret"), int)
    assert pool.stats().created == 1


def test_a_default_role_that_was_given_up_is_there_again(make_pool: MakePool, admin: Any, is_mariadb: bool) -> None:
    sql(f"set default role kept_boss {'for' if is_mariadb else 'to'} kept_low@'%'")(admin)
    pool = make_pool(size=1, maxsize=1, **LOW)
    for _ in range(3):
        with pool.get_connection() as connection:
            assert ask(connection, "select * from test.kept_secret") == ()
            connection.execute("set role none")
    assert pool.stats().created == 1


@pytest.mark.parametrize("dirty", [PREPARE, "call kept_branch()"])
@pytest.mark.parametrize("options", [{}, {"init_command": "select * from kept_noisy"}, {"reset": "always"}], ids=str)
def test_a_prepared_branch_outlives_its_session_and_no_borrower_gets_that(
    make_pool: MakePool, admin: Any, server: Any, dirty: str, options: dict[str, Any]
) -> None:
    pool = make_pool(size=1, maxsize=1, client_flag=CLIENT.MULTI_STATEMENTS, **options)
    before = server.pid
    connection = pool.get_connection()
    sql(dirty)(connection)
    connection.close()
    with pool.get_connection() as connection:
        connection.execute("insert into kept_noisy values (1)")
        assert ask(connection, "select * from kept_rows") == ()
    for _ in range(100):
        with suppress(pymysql.err.MySQLError):  # the closed session is there for a moment
            sql("xa commit 'kept'")(admin)
            break
    with admin.cursor() as cursor:
        cursor.execute("select * from kept_rows")
        assert cursor.fetchall() == ((7,),)
    assert server.pid == before


def test_the_texts_of_statements_in_show_profiles_reach_no_other_borrower(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        connection.execute("set profiling = 1")
        connection.execute("select 'private'")
        connection.execute("set profiling = 0")
    with pool.get_connection() as connection:
        assert ask(connection, "show profiles") == ()


@pytest.mark.parametrize("reset", ["auto", "always"])
def test_what_the_optimizer_trace_shows_of_statements_reaches_no_other_borrower(
    make_pool: MakePool, reset: Any
) -> None:
    pool = make_pool(size=1, maxsize=1, reset=reset)
    for _ in range(2):
        with pool.get_connection() as connection:
            assert ask(connection, "select query from information_schema.optimizer_trace") == ()
            sql("set optimizer_trace = 'enabled=on'", "select * from kept_rows where v = 4711")(connection)
    assert pool.stats().created == 1


def test_a_pool_without_a_database_closes_what_is_in_one_at_the_end_and_nothing_else(
    make_pool: MakePool, is_mariadb: bool
) -> None:
    pool = make_pool(size=1, maxsize=1, database=None)
    for _ in range(3):
        with pool.get_connection() as connection:
            sql("call test.kept_harmless()")(connection)
    assert pool.stats().created == 1
    if is_mariadb:
        with pool.get_connection() as connection:
            sql("execute immediate 'use kept_other'")(connection)
        assert dict(pool.stats().discarded) == {"reset failed": 1}
    with pool.get_connection() as connection:
        assert ask(connection, "select database()") == ((None,),)


def test_the_warning_of_the_pools_own_rollback_reaches_no_borrower(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.execute("insert into kept_rows values (1)")
    connection.execute("insert into kept_noisy values (1)")
    connection.close()
    with pool.get_connection() as connection:
        assert connection.show_warnings() == ()
    assert pool.stats().created == 1


def test_a_rollback_that_begins_another_transaction_is_followed_by_a_reset(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1, init_command="set completion_type = 'CHAIN'")
    connection = pool.get_connection()
    connection.execute("insert into kept_rows values (1)")
    connection.close()
    with admin.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.innodb_trx")
        assert cursor.fetchall() == ((0,),)
    assert pool.stats().idle == 1


def command(number: int, argument: bytes) -> Dirty:
    def run(connection: Any) -> None:
        connection._execute_command(number, argument)
        with suppress(pymysql.err.MySQLError):
            connection._read_ok_packet()

    return run


def by_hand(connection: Any) -> None:
    connection._next_seq_id = 0
    connection.write_packet(b"\x1b\0\0")
    connection._read_packet()


COMMANDS = {
    "COM_SET_OPTION": command(0x1B, b"\0\0"),
    "COM_REGISTER_SLAVE": command(0x15, struct.pack("<I", 77) + b"\1h\1u\1p" + struct.pack("<HII", 33, 0, 0)),
    "COM_CHANGE_USER": command(0x11, b"kept_low\0\0\0"),
    "unknown": command(0x77, b""),
    "a packet by hand": by_hand,
}


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_session_that_got_a_command_which_pymysql_has_no_method_for_is_closed(
    make_pool: MakePool, name: str, reset: Any
) -> None:
    pool = make_pool(size=1, maxsize=1, reset=reset)
    for _ in range(2):
        connection = pool.get_connection()
        assert ask(connection, "select 1; select 2") == 1064  # COM_SET_OPTION allows several statements at once
        COMMANDS[name](connection)
        connection.close()
    assert sum(pool.stats().discarded.values()) == 2


# -- what a login gives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "look"),
    [
        ({"client_flag": CLIENT.INTERACTIVE}, "select @@wait_timeout"),
        ({"client_flag": CLIENT.INTERACTIVE, "init_command": "set wait_timeout = 55"}, "select @@wait_timeout"),
        ({"client_flag": CLIENT.IGNORE_SPACE}, "select @@sql_mode"),
        ({"client_flag": CLIENT.IGNORE_SPACE, "sql_mode": "ANSI"}, "select @@sql_mode"),
        ({"user": "kept_limited", "password": "pw"}, "select @@max_statement_time"),
        ({"user": "kept_limited", "password": "pw", "use_unicode": False}, "select @@max_statement_time"),
    ],
    ids=str,
)
def test_what_a_login_gives_is_there_for_every_borrower(
    make_pool: MakePool, admin: Any, connect_args: dict[str, Any], is_mariadb: bool, options: dict[str, Any], look: str
) -> None:
    if "max_statement_time" in look and not is_mariadb:
        pytest.skip("MySQL has no such limit of an account")
    limit = " with max_statement_time 7.5" if is_mariadb else ""
    sql(
        "drop user if exists kept_limited@'%'",
        f"create user kept_limited@'%' identified by 'pw'{limit}",
        "grant all on test.* to kept_limited@'%'",
        "set global interactive_timeout = 4711",
    )(admin)
    try:
        stock = pymysql.connect(**{**connect_args, **options})
        with stock.cursor() as cursor:
            cursor.execute(look)
            new = cursor.fetchall()
        stock.close()
        pool = make_pool(size=1, maxsize=1, **options)
        for _ in range(3):
            with pool.get_connection() as connection:
                assert ask(connection, look) == new
                sql("set @x = 1, wait_timeout = 99, sql_mode = ''")(connection)
                if is_mariadb:
                    sql("set max_statement_time = 0")(connection)
        assert pool.stats().created == 1
    finally:
        sql("set global interactive_timeout = default", "drop user kept_limited@'%'")(admin)


@pytest.fixture(scope="module")
def telling(server: Any) -> Iterator[Any]:
    """A server with performance_schema, which shows more of a session."""
    with DevServer(binary=server.binary, options=["--performance-schema=ON"]) as telling:
        yield telling


OWN_THREAD = "(select thread_id from performance_schema.threads where processlist_id = connection_id())"


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("dirty", ["set resource group kept_group", "call kept_grouping()"])
def test_a_resource_group_ends_with_the_lease(
    make_pool: MakePool, telling: Any, is_mariadb: bool, dirty: str, reset: Any
) -> None:
    if is_mariadb:
        pytest.skip("MariaDB has no resource groups")
    pool = make_pool(**telling.connect_args, size=1, maxsize=1, reset=reset)
    with pool.get_connection() as connection, suppress(pymysql.err.MySQLError):
        sql("create procedure kept_grouping() set resource group kept_group")(connection)
        sql("create resource group kept_group type = user")(connection)
    look = "select resource_group from performance_schema.threads where processlist_id = connection_id()"
    for _ in range(2):
        with pool.get_connection() as connection:
            assert ask(connection, look) == (("USR_default",),)
            sql(dirty)(connection)
            assert ask(connection, look) == (("kept_group",),)
    assert pool.stats().created == 1


@pytest.mark.parametrize("reset", ["auto", "always"])
def test_the_history_of_a_session_in_performance_schema_stays(make_pool: MakePool, telling: Any, reset: Any) -> None:
    pool = make_pool(**telling.connect_args, size=1, maxsize=1, reset=reset)
    with pool.get_connection() as connection:
        sql("update performance_schema.setup_consumers set enabled = 'YES' where name like 'events_statements%'")(
            connection
        )
    with pool.get_connection() as connection:
        sql("select 'private'")(connection)
    with pool.get_connection() as connection:
        texts = ask(
            connection,
            f"select sql_text from performance_schema.events_statements_history where thread_id = {OWN_THREAD}",
        )
        assert ("select 'private'",) in texts


@pytest.mark.parametrize("reset", ["auto", "always", "never"])
def test_what_performance_schema_records_of_a_session_stays_as_it_was_set(
    make_pool: MakePool, telling: Any, reset: Any
) -> None:
    columns = ("instrumented", "history")
    own = "where processlist_id = connection_id()"
    look = f"select {', '.join(columns)} from performance_schema.threads {own}"
    pool = make_pool(**telling.connect_args, size=1, maxsize=1, reset=reset, autocommit=True)
    with pool.get_connection() as connection:
        assert ask(connection, look) == (("YES",) * len(columns),)
        values = ", ".join(f"{column} = 'NO'" for column in columns)
        sql(f"update performance_schema.threads set {values} {own}", "set @touched = 1")(connection)
    assert pool.stats().reset == (0 if reset == "never" else 1)
    with pool.get_connection() as connection:
        assert ask(connection, look) == (("NO",) * len(columns),)
    assert pool.stats().created == 1
