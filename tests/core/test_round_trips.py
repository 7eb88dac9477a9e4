"""What a dirty session costs over a link with latency: round trips, counted by a proxy between pool and server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.proxy import Link
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool

DELAY = 0.001  # seconds, each round trip


@pytest.fixture
def link(server: DevServer) -> Iterator[Link]:
    with Link((server.host, server.port), DELAY) as link:
        yield link


def write(connection: Any) -> None:
    connection.cursor().execute("UPDATE counted_trips SET v = v + 1")


def snapshot(connection: Any) -> None:
    connection.cursor().execute("SELECT * FROM counted_trips")


def variable(connection: Any) -> None:
    connection.cursor().execute("SET @x = 1")


def setting(connection: Any) -> None:
    connection.cursor().execute("SET SESSION sql_mode = ''")


def inserted(connection: Any) -> None:
    connection.cursor().execute("INSERT INTO counted_trips (v) VALUES (1)")
    connection.commit()


@pytest.mark.parametrize(
    ("leave", "its_own"), [(write, 1), (snapshot, 1), (variable, 1), (setting, 1), (inserted, 2)],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_a_borrower_leaves_behind_costs_one_round_trip_more_than_its_statements(
    make_pool: MakePool, admin: Any, link: Link, leave: Callable[[Any], None], its_own: int
) -> None:
    admin.query("CREATE TABLE IF NOT EXISTS counted_trips (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
    admin.query("INSERT INTO counted_trips (v) VALUES (0)")
    pool = make_pool(port=link.port, size=1, pre_create_num=1, autocommit=False)
    with pool.get_connection() as connection:
        leave(connection)  # the first SET that a pool sees makes it ask what its sessions are set to
    for _ in range(3):
        link.reset()
        connection = pool.get_connection()
        leave(connection)
        assert link.round_trips == its_own
        connection.close()
        assert link.round_trips == its_own + 1
        link.reset()
        with pool.get_connection() as connection:
            assert link.round_trips == 0  # it was cleaned when it came home
    stats = pool.stats()
    assert (stats.created, sum(stats.discarded.values())) == (1, 0)
