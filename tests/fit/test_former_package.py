"""Programs written for pymysql-pool 0.3.7 and 0.5.0 run as they are: call shapes, options, names."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

import pymysqlpool
from pymysqlpool import ConnectionPool, ConnectionPoolSingleton, ReturnConnectionToPoolError


@pytest.fixture
def arguments(connect_args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = connect_args
    with pymysql.connect(**arguments, autocommit=True) as admin, admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS former")
        cursor.execute("CREATE TABLE former (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20))")
        yield arguments
        cursor.execute("DROP TABLE former")


# -- 0.3.7 -----------------------------------------------------------------------------------------------------


def test_037_a_program_with_all_its_names(arguments: dict[str, Any]) -> None:
    with ConnectionPool(2, 3, "shop", 2, 3600, autocommit=True, **arguments) as pool:
        assert (pool.size, pool.maxsize, pool.name) == (2, 3, "shop")
        connection = pool.get_connection(retry_num=3, retry_interval=0.1, pre_ping=True)
        assert connection.args == ()
        assert connection.kwargs["user"] == arguments["user"]
        with connection as cur:
            assert cur.execute("INSERT INTO former (name) VALUES (%s)", ("a",)) == 1
            assert (cur.rowcount, cur.lastrowid) == (1, 1)
            cur.execute("SELECT id, name FROM former")
            assert [column[0] for column in cur.description] == ["id", "name"]
            assert list(cur) == [(1, "a")]
        with pytest.raises(ReturnConnectionToPoolError, match="already returned to the pool"):
            connection.close()
        one = pool.get_connection().execute_query("SELECT name FROM former", dictcursor=True, return_one=True)
        assert one == {"name": "a"}
        assert pool.size == 2


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0, "maxsize": 1},
        {"maxsize": 3},
        {"maxsize": 2, "pre_create_num": 9},
        {"autocommit": "yes"},
        {"autocommit": 0},
        {"autocommit": 1},
        {"defer_connect": False},
        {"init_command": b"SET @x = 1"},
        {"con_lifetime": -1},
        {"name": ""},
    ],
    ids=repr,
)
def test_037_options_as_it_took_them(arguments: dict[str, Any], options: dict[str, Any]) -> None:
    with ConnectionPool(**options, **arguments) as pool:
        for _ in range(2):
            with pool.get_connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT @@autocommit")
                assert cursor.fetchone() == (int(bool(options.get("autocommit", False))),)
                cursor.execute("SET @dirty = 1")
        assert pool.total_num <= pool.maxsize


def test_what_a_connection_was_made_with_prints_without_the_password(arguments: dict[str, Any]) -> None:
    with ConnectionPool(**{**arguments, "password": arguments["password"]}) as pool:
        with pool.get_connection() as connection:
            assert connection.kwargs["password"] == arguments["password"]
        secret = ConnectionPool(user="me", password="hunter2", connect_timeout=1)
        lease = pymysqlpool.Connection(user="me", password="hunter2", defer_connect=True)
        assert lease.kwargs["password"] == "hunter2"
        assert "hunter2" not in f"{lease.kwargs} {lease.kwargs!r} {secret!r}"


def shout(task: tuple[ConnectionPool, int]) -> tuple[int, int, int]:
    pool, number = task
    with pool.get_connection() as connection:
        thread = connection.thread_id()
    return number, thread, id(pool)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_037_pools_travel_into_the_processes_of_multiprocessing(arguments: dict[str, Any], method: str) -> None:
    with ConnectionPool(size=1, maxsize=1, autocommit=True, **arguments) as pool:
        with pool.get_connection() as connection:
            here = connection.thread_id()
        assert pickle.loads(pickle.dumps(pool)) is pool
        with multiprocessing.get_context(method).Pool(1) as workers:
            answers = workers.map(shout, [(pool, number) for number in range(4)], chunksize=1)
            workers.close()
            workers.join()
        assert [number for number, _, _ in answers] == [0, 1, 2, 3]
        threads = {thread for _, thread, _ in answers}
        assert len(threads) == 1, "all tasks of a process share one pool"
        assert here not in threads
        with pool.get_connection() as connection:
            assert connection.thread_id() == here


# -- 0.5.0 -----------------------------------------------------------------------------------------------------


def test_050_cursors_query_and_modify(arguments: dict[str, Any]) -> None:
    with ConnectionPool(size=2, maxsize=3, name="shop", autocommit=True, **arguments) as pool:
        with pool.get_connection() as connection, connection.cursor() as cursor:
            assert isinstance(cursor, pymysql.cursors.Cursor)
            done = cursor.db_modify("INSERT INTO former (name) VALUES (%s)", ("a",))
            assert done == {"rowcount": 1, "lastrowid": 1}
            done = cursor.db_modify("INSERT INTO former (name) VALUES (%s)", [("b",), ("c",)], exec_many=True)
            assert done["rowcount"] == 2
        with pool.get_connection() as connection, connection.cursor(pymysqlpool.DictCursor) as cursor:
            assert cursor.db_query("SELECT name FROM former WHERE id = %s", (1,)) == [{"name": "a"}]
        assert (pool.available_num, pool.total_num) == (1, 1)


def test_050_every_cursor_of_pymysqls_two_classes_has_them(arguments: dict[str, Any]) -> None:
    with ConnectionPool(**arguments) as pool, pool.get_connection() as connection:
        for kind, rows in {pymysql.cursors.Cursor: ((1,),), pymysql.cursors.DictCursor: [{"one": 1}]}.items():
            with connection.cursor(kind) as cursor:
                assert cursor.db_query("SELECT 1 AS one") == rows  # type: ignore[attr-defined]
        with connection.cursor(pymysql.cursors.SSCursor) as cursor:
            assert not hasattr(cursor, "db_query")


def test_050_a_transaction_that_is_left_open_is_rolled_back_and_told(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """0.5.0 commits it; the way out that the warning names is one that helps here."""
    with ConnectionPool(autocommit=True, **arguments) as pool, caplog.at_level(logging.WARNING):
        connection = pool.get_connection()
        connection.begin()
        connection.cursor().execute("INSERT INTO former (name) VALUES ('a')")
        connection.close()
        assert pool.get_connection().execute_query("SELECT COUNT(*) FROM former") == ((0,),)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "without a commit()" in told
    assert "autocommit" not in told


def test_050_a_pool_of_dict_cursors(arguments: dict[str, Any]) -> None:
    with (
        ConnectionPool(cursorclass=pymysql.cursors.DictCursor, **arguments) as pool,
        pool.get_connection() as connection,
        connection.cursor() as cursor,
    ):
        assert cursor.db_query("SELECT 1 AS one") == [{"one": 1}]


def test_050_the_singleton_is_made_once_and_commits(arguments: dict[str, Any]) -> None:
    class Shop(ConnectionPoolSingleton):
        pass

    pool = Shop(size=1, maxsize=1, **arguments)
    try:
        assert Shop(size=1, maxsize=1, **arguments) is pool
        connection = pool.get_connection()
        connection.cursor().execute("INSERT INTO former (name) VALUES ('a')")
        connection.close()
        assert pool.get_connection().execute_query("SELECT name FROM former") == (("a",),)
    finally:
        pool.close()
    again = Shop(size=1, maxsize=1, **arguments)
    assert again is not pool
    again.close()


def test_050_changes_that_are_rolled_back_are_told_with_the_way_out(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with ConnectionPool(**arguments) as pool, caplog.at_level(logging.WARNING):
        for _ in range(3):
            connection = pool.get_connection()
            connection.cursor().execute("INSERT INTO former (name) VALUES ('a')")
            connection.close()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "autocommit=True, which was the default of pymysql-pool 0.5.0" in told
    assert __file__ in told


# -- a lease that has ended --------------------------------------------------------------------------------------


FACTS = (
    *("host", "port", "user", "db", "unix_socket", "host_info", "charset", "encoding", "collation"),
    *("server_version", "protocol_version", "autocommit_mode"),
)
METHODS = ["thread_id", "get_host_info", "get_proto_info", "get_server_info", "character_set_name"]


@pytest.mark.parametrize("used", [True, False])
def test_a_returned_connection_answers_as_python_asks(arguments: dict[str, Any], used: bool) -> None:
    """As a closed connection of PyMySQL: facts are answered, and what needs the session is refused by a PyMySQL error
    that is an AttributeError where an attribute was asked for."""
    with ConnectionPool(**arguments) as pool:
        connection = pool.get_connection()
        oracle = pymysql.connect(**arguments)
        if used:
            connection.ping()
            number = connection.thread_id()
        connection.close()
        oracle.close()
        assert [getattr(connection, name) for name in FACTS] == [getattr(oracle, name) for name in FACTS]
        assert [getattr(connection, name)() for name in METHODS[1:]] == [
            getattr(oracle, name)() for name in METHODS[1:]
        ]
        assert type(connection.thread_id()) is int
        assert not used or connection.thread_id() == number
        assert dict(inspect.getmembers(connection))["close"] is not None
        assert getattr(connection, "password", None) is None
        assert not hasattr(connection, "no_such_name")
        assert hasattr(connection, "close")
        assert connection.open is False
        with pytest.raises(ReturnConnectionToPoolError, match="already returned") as caught:
            connection.insert_id()
        assert isinstance(caught.value, pymysql.err.InterfaceError)
        assert caught.value.args[0] == 0
        for refused in (connection.cursor, connection.connect, connection.ping, connection.commit, connection.close):
            with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
                refused()


# -- the module --------------------------------------------------------------------------------------------------


def test_the_package_stands_where_a_db_api_module_is_asked_for(arguments: dict[str, Any]) -> None:
    assert (pymysqlpool.apilevel, pymysqlpool.threadsafety, pymysqlpool.paramstyle) == ("2.0", 1, "pyformat")
    for name in [
        "Warning",
        "Error",
        "InterfaceError",
        "DatabaseError",
        "DataError",
        "OperationalError",
        "IntegrityError",
    ]:
        assert getattr(pymysqlpool, name) is getattr(pymysql, name)
    for name in ("STRING", "BINARY", "NUMBER", "DATETIME", "ROWID", "Binary"):
        assert getattr(pymysqlpool, name) is getattr(pymysql, name)
    for name in ("Date", "Time", "Timestamp"):
        assert getattr(pymysqlpool, name) is getattr(pymysql, name)
        assert getattr(pymysqlpool, f"{name}FromTicks") is getattr(pymysql, f"{name}FromTicks")
    connection = pymysqlpool.connect(**arguments)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()


def test_every_credential_may_be_a_function_also_the_port(arguments: dict[str, Any]) -> None:
    by_call = {name: (lambda value=value: value) for name, value in arguments.items() if name in ("user", "password")}
    place = {name: (lambda value=arguments[name]: value) for name in ("host", "port") if name in arguments}
    with ConnectionPool(**{**arguments, **by_call, **place}) as pool, pool.get_connection() as connection:
        connection.ping()
