"""What `pymysql.connect()` or a server would refuse at the first borrow is refused by name when the pool is made."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import fractions
import io
import pathlib
import re
import ssl
import threading
import traceback
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool, SettingsError, settings
from pymysqlpool._util import arguments
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("host", "127.0.0.1:3307", "write host='127.0.0.1', port=3307"),
        ("host", ["a", "b"], "a pool is for one server"),
        ("host", 3, "must be text"),
        ("host", "a..b", "no name of a host"),
        ("host", "a,b", "must be one host"),
        ("host", "/run/mysqld/mysqld.sock", "write unix_socket='/run/mysqld/mysqld.sock'"),
        ("host", "db/shop", "no name of a host: it has / in it"),
        ("host", "${DB_HOST}", "no name of a host: it has "),
        ("host", "x" * 64, "no name of a host"),
        ("host", "a\0b", "NUL"),
        ("bind_address", "x" * 64, "no name of a host"),
        ("user", "\ud800", "cannot be sent, the one at 0"),
        ("database", "a\0b", "NUL"),
        ("collation", "utf8mb4_bin; x", "no name of a collation"),
        ("collation", "latin1_bin", "not a collation of charset='utf8mb4'"),
        ("collation", "binary", "not a collation of charset='utf8mb4'"),
        ("auth_plugin_map", {"dialog": "Dialog"}, "auth_plugin_map['dialog']='Dialog' must be a class"),
        ("server_public_key", "-----BEGIN PUBLIC KEY-----", "must be bytes"),
        ("client_flag", 1 << 31, "more than the 31 bits"),
        ("client_flag", CLIENT.COMPRESS, "compression"),
        ("client_flag", 1 << 24, "EOF packets"),
        ("charset", "binary", "Python cannot encode"),
        ("host", "a b", "a blank"),
        ("bind_address", "127.0.0.1 ", "a blank"),
        ("unix_socket", "/" + "x" * 107, "107 bytes"),
        ("tcp_user_timeout", float("inf"), "at most 65534"),
        ("maxsize", True, "maxsize=True"),
        ("port", "3306", "is text; write port=3306"),
        ("port", 3306.0, "whole number"),
        ("port", 70000, "65535"),
        ("cursorclass", "DictCursor", "must be a class"),
        ("cursorclass", int, "must be a class of cursors"),
        ("cursorclass", len, "must be a class of cursors"),
        ("cursorclass", None, "must be a class"),
        ("connect_timeout", "3", "number of seconds"),
        ("connect_timeout", 0, "above 0"),
        ("connect_timeout", None, "number of seconds"),
        ("read_timeout", 0, "above 0"),
        ("write_timeout", -1, "above 0"),
        ("charset", "utf-8", "'utf8mb4'"),
        ("charset", "nonsense", "no character set"),
        ("ssl", True, "must be a dict"),
        ("ssl", {"ca": "/no/such/ca.pem"}, "/no/such/ca.pem"),
        ("ssl_ca", "/no/such/ca.pem", "/no/such/ca.pem"),
        ("init_command", ["SET @a = 1"], "must be one statement"),
        ("init_command", "SET @a = 1; SET @b = 2", "more than one statement"),
        ("password", 1234, "not int"),
        ("password", "\u043f", "latin1"),
        ("database", 5, "must be text"),
        ("client_flag", None, "whole number"),
        ("max_allowed_packet", "16M", "whole number"),
        ("conv", [], "must be a dict"),
        ("compress", True, "not supported"),
        ("defer_connect", True, "contradicts"),
        ("on_connect", lambda: None, "with 1 argument (connection)"),
        ("on_checkin", lambda connection, more: None, "with 1 argument (connection)"),
        ("on_discard", lambda: None, "with 1 argument (reason)"),
        ("on_connect", asyncio.sleep, "coroutine function"),
        ("reuse_policy", lambda: None, "with 1 argument (facts)"),
        ("password", lambda account: "secret", "with 0 arguments"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_by_name(option: str, value: Any, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ConnectionPool(**{"host": "127.0.0.1", option: value})
    assert option in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"port": None},
        {"port": 0},
        {"charset": None},
        {"host": "::1"},
        {"host": lambda: "db", "user": lambda: "me", "password": lambda: "secret"},
        {"password": b"\xd0\xbf"},
        {"init_command": "SET @a = ';' -- ; and so on"},
        {"init_command": b"SET @a = 1;"},
        {"init_command": "SET @a = 1; SET @b = 2", "client_flag": CLIENT.MULTI_STATEMENTS},
        {"ssl": {}},
        {"ssl": {"check_hostname": False}},
        {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        {"ssl_ca": "/no/such/ca.pem", "ssl_disabled": True},
        {"defer_connect": False},
        {"read_default_file": "/no/such/file.cnf"},
        {"cursorclass": pymysql.cursors.DictCursor},
        {"cursorclass": lambda connection: pymysql.cursors.DictCursor(connection)},
    ],
)
def test_what_pymysql_accepts_is_accepted(given: dict[str, Any]) -> None:
    ConnectionPool(**given)


@pytest.mark.parametrize("host", ["mysql://me:hunter2@db/shop", "me:hunter2@db", "me:hunter2"])
def test_a_url_is_refused_without_its_password(host: str) -> None:
    with pytest.raises(SettingsError, match="write its parts") as caught:
        ConnectionPool(host=host)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(SettingsError) as caught:
        ConnectionPool(password="hunter2\u043f", charset="utf-8")
    assert "hunter2" not in str(caught.value)


def test_the_default_size_gives_way_to_maxsize_and_a_written_one_does_not() -> None:
    assert settings.split({"maxsize": 4})[0].size == 4
    assert settings.split({"size": None, "maxsize": 4})[0].size == 4
    assert settings.split({})[0].size == settings.DEFAULT_SIZE
    with pytest.raises(SettingsError, match="size=10 is larger than maxsize=4"):
        settings.split({"size": 10, "maxsize": 4})


def test_a_misspelt_option_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(SettingsError, match="did you mean 'host', 'size'"):
        ConnectionPool(hots="db", siz=3)


@pytest.mark.parametrize("given", ["x", -1, float("nan"), [1]])
def test_a_pre_ping_of_one_call_is_checked_as_the_option_is(given: Any) -> None:
    pool = ConnectionPool(host="127.0.0.1", port=1)
    with pytest.raises(SettingsError, match="pre_ping="):
        pool.get_connection(pre_ping=given, timeout=0)
    assert pool.stats().waiting == 0


NONSENSE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3.5, float("nan"), float("inf"), -float("inf"), 10**30, -(10**30), 1j, "", "x", "3",
    "true", "\0", "\u00e4", "\ud800", "a b", "x" * 10_000, b"", b"x", bytearray(b"x"), b"\xff", [], [1], ["x"], (),
    ("a", "b"), {}, {"a": 1}, set(), frozenset({1}), object(), int, str, lambda: 1, lambda *given: None, len,
    decimal.Decimal(3), fractions.Fraction(3, 2), datetime.timedelta(seconds=3), pathlib.Path("/x"), re.compile("x"),
    io.BytesIO(b"x"), threading.Lock(), ..., range(3), pymysql.cursors.DictCursor, ValueError("x"),
    memoryview(b"x"), "utf8mb4", 65536,
)  # fmt: skip
ALIASES = {"db": "database", "passwd": "password"}


@pytest.mark.parametrize("option", sorted(settings.OPTION_NAMES | arguments.NAMES | {"reuse_policy"}))
@pytest.mark.parametrize("kind", [ConnectionPool, AsyncConnectionPool, Cluster])
def test_nonsense_is_accepted_or_refused_by_name_and_nothing_else_happens(kind: Any, option: str) -> None:
    if kind is Cluster and option in ("host", "port", "unix_socket"):
        return
    where: dict[str, Any] = {"hosts": ["127.0.0.1:1"]} if kind is Cluster else {"host": "127.0.0.1", "port": 1}
    for value in NONSENSE:
        if option == "pre_create_num" and type(value) is int and value > 0:
            continue  # it connects
        said = ""
        try:
            pool = kind(**{**where, option: value})
        except SettingsError as error:
            said = str(error)
        else:
            (pool.pool if kind is AsyncConnectionPool else pool).close()
        assert not said or option in said or ALIASES.get(option, option) in said, repr(value)


@pytest.mark.parametrize("returned", ["mysql://me:hunter2@db/shop", "me:hunter2@db"])
def test_a_function_that_returns_a_url_as_host_is_told_so_at_once_and_shows_no_password(returned: str) -> None:
    with ConnectionPool(host=lambda: returned, timeout=30) as pool:
        with pytest.raises(SettingsError, match="for host returned what cannot be used: host is a URL") as caught:
            pool.get_connection()
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("policy", [lambda facts: None, lambda facts: 1 // 0])
def test_a_policy_that_decides_nothing_is_named_and_costs_one_connection(policy: Any, server: DevServer) -> None:
    with ConnectionPool(maxsize=1, reuse_policy=policy, **server.connect_args) as pool:
        for _ in range(2):
            connection = pool.get_connection(timeout=5)
            connection.query("SET @mine = 1")
            with pytest.raises((TypeError, ZeroDivisionError)):
                connection.close()
            assert pool.stats().total == 0


def test_an_init_command_that_the_server_refuses_is_named(server: DevServer) -> None:
    refused = pytest.raises(pymysql.err.ProgrammingError, match="init_command: You have an error in your SQL syntax")
    with ConnectionPool(**server.connect_args, init_command="SETT @a = 1") as pool, refused:
        pool.get_connection(timeout=10)


def test_an_error_of_a_function_names_its_option(server: DevServer) -> None:
    with ConnectionPool(**{**server.connect_args, "password": lambda: {}["DB_PASSWORD"]}) as pool:
        for _ in range(2):
            with pytest.raises(KeyError, match="DB_PASSWORD") as caught:
                pool.get_connection(timeout=10)
            assert caught.value.__notes__ == ["The function that is the pool's password= has raised this."]
