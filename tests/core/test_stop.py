"""KILL QUERY is said only to a session that was proven to be the one meant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from pymysqlpool import Connection
from pymysqlpool._driver.stop import stop_statement
from pymysqlpool.devserver import DevServer
from tests.proxy import Proxy
from tests.support import wait_until

SLEEP = "SELECT SLEEP(25), 'to be stopped'"


def run(connection: Any, ended: list[Any]) -> threading.Thread:
    def work() -> None:
        try:
            ended.append(connection.cursor().execute(SLEEP))
        except (pymysql.err.MySQLError, AttributeError) as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def is_running(admin: Any) -> bool:
    with admin.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE info = %s", (SLEEP,))
        return bool(cursor.fetchone()[0])


@pytest.fixture
def side(connect_args: dict[str, Any]) -> Iterator[Connection]:
    connection = Connection(**connect_args)
    yield connection
    connection.close()


@pytest.mark.parametrize("by", ["tcp", "unix socket"])
def test_a_statement_is_stopped(server: DevServer, connect_args: Any, side: Connection, admin: Any, by: str) -> None:
    victim = Connection(**(connect_args if by == "tcp" else server.socket_args))
    ended: list[Any] = []
    thread = run(victim, ended)
    wait_until(lambda: is_running(admin), "the statement runs")
    assert stop_statement(victim, side)
    thread.join(20)
    assert not thread.is_alive()
    assert len(ended) == 1
    victim.close()


def test_a_session_at_work_under_the_same_number_but_over_another_socket_is_left_alone(
    proxy: Proxy, connect_args: Any, side: Connection, admin: Any
) -> None:
    """As behind a load balancer: the server that was asked has another client's session under that number."""
    other = Connection(**{**connect_args, "port": proxy.port})
    ended: list[Any] = []
    thread = run(other, ended)
    wait_until(lambda: is_running(admin), "the statement runs")
    assert not stop_statement(other, side)
    assert is_running(admin)
    admin.kill(other.thread_id())
    thread.join(20)
    assert not thread.is_alive()


def test_a_session_that_does_nothing_or_is_not_there_is_left_alone(connect_args: Any, side: Connection) -> None:
    victim = Connection(**connect_args)
    assert not stop_statement(victim, side)
    victim.query("SELECT 1")
    victim.close()
    assert not stop_statement(victim, side)
