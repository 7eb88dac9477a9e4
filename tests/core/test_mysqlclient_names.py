"""mysqlclient's names on a connection: the server is the oracle of what an escaped text means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from pymysqlpool import Connection, ConnectionPool, ReturnConnectionToPoolError
from pymysqlpool.devserver import DevServer

NASTY = ["", "it's", "back\\slash", '"', "\0\n\r\x1a\t", "ünï 😀", "\\'; DROP TABLE x; --", "%s %%"]


@pytest.fixture
def pool(server: DevServer) -> Iterator[ConnectionPool]:
    with ConnectionPool(**server.connect_args, size=1, maxsize=1) as pool:
        yield pool


def ask(connection: Any, statement: str | bytes) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize("text", NASTY)
def test_an_escaped_text_means_itself_to_the_server(pool: ConnectionPool, mode: str, text: str) -> None:
    with pool.get_connection() as connection:
        ask(connection, "SELECT 1")
        connection.query(f"SET sql_mode = '{mode}'")
        assert ask(connection, f"SELECT '{connection.escape_string(text)}'") == text
        assert ask(connection, f"SELECT {connection.string_literal(text)}") == text
        assert ask(connection, f"SELECT {connection.literal(text)}") == text
        assert ask(connection, b"SELECT '" + connection.escape_string(text.encode()) + b"'") == text


def test_bytes_in_a_character_set_with_backslashes_in_its_characters_are_escaped_by_character(
    server: DevServer,
) -> None:
    """The classical injection: 0xBF 0x27 byte by byte becomes 0xBF 0x5C 0x27, a character and a closing quote."""
    connection = Connection(**server.connect_args, charset="gbk")
    given = b"\xbf\x5c'"  # one character, then a quote
    assert ask(connection, b"SELECT HEX('" + connection.escape_string(given) + b"')") == given.hex().upper()
    connection.close()


def test_what_the_last_statement_did_can_be_asked(pool: ConnectionPool) -> None:
    with pool.get_connection() as connection:
        assert connection.info() is None
        connection.query("CREATE TEMPORARY TABLE t (a INT, b INT)")
        connection.query("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
        assert connection.info() == "Records: 3  Duplicates: 0  Warnings: 0"
        connection.query("UPDATE t SET b = 3")
        assert connection.info() == "Rows matched: 3  Changed: 2  Warnings: 0"
        assert connection.field_count() == 0
        connection.query("SELECT a, b, CAST('x' AS SIGNED) FROM t LIMIT 1")
        assert (connection.field_count(), connection.warning_count()) == (3, 1)


def test_stat_leaves_the_connection_at_a_command_boundary(pool: ConnectionPool) -> None:
    with pool.get_connection() as connection:
        assert "Uptime" in connection.stat()
        assert ask(connection, "SELECT 7") == 7
        session = connection.thread_id()
    with pool.get_connection() as connection:
        assert connection.thread_id() == session


def test_the_converters_are_those_of_the_connection(pool: ConnectionPool) -> None:
    with pool.get_connection() as connection:
        assert connection.converter == {**connection.decoders, **connection.encoders}


def test_a_lease_that_was_given_back_answers_nothing_of_its_old_session(pool: ConnectionPool) -> None:
    connection = pool.get_connection()
    ask(connection, "SELECT 1")
    connection.close()
    for call in (connection.info, connection.stat, connection.field_count, connection.warning_count):
        with pytest.raises(ReturnConnectionToPoolError):
            call()


def test_pymysqls_other_names_are_still_there(pool: ConnectionPool) -> None:
    with pool.get_connection() as connection:
        for name in ("thread_id", "get_server_info", "get_host_info", "character_set_name", "affected_rows"):
            assert getattr(connection, name)() is not None or name == "affected_rows", name
        assert isinstance(connection, pymysql.connections.Connection)
