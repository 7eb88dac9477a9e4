"""Nothing crosses from one borrower to the next (Invariants 8 and 21): compared with a brand-new connection."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from tests.conftest import MakePool
from tests.core.dirt import SCHEMA, WAYS, difference, picture, sql
from tests.proxy import Proxy
from tests.support import Questions
from tests.sweep import Sweep


@pytest.fixture(scope="module")
def prepared(server: Any) -> Iterator[Any]:
    admin = pymysql.connect(**server.connect_args, ssl_disabled=True, autocommit=True)
    sql(*SCHEMA)(admin)
    yield admin
    admin.close()


class Stage:
    """A pool of one connection, and the picture of a new one."""

    def __init__(self, pool: ConnectionPool, fresh: ConnectionPool, admin: Any) -> None:
        self.pool = pool
        self.admin = admin
        connection = fresh.get_connection()
        self.new = picture(connection, admin)
        fresh.drain()
        connection.close()

    def check(self, what: str) -> None:
        connection = self.pool.get_connection()
        found = difference(picture(connection, self.admin), self.new)
        connection.close()
        assert not found, f"after {what}: {found}"


@pytest.fixture(params=[True, False], ids=["autocommit", "no autocommit"])
def stage(request: pytest.FixtureRequest, make_pool: MakePool, prepared: Any) -> Stage:
    options = {
        "size": 1,
        "maxsize": 1,
        "autocommit": request.param,
        "client_flag": CLIENT.MULTI_STATEMENTS,
        "init_command": "set session net_read_timeout = 33",
        "sql_mode": "STRICT_ALL_TABLES",
        "collation": "utf8mb4_unicode_ci",
    }
    return Stage(make_pool(**options), make_pool(**options), prepared)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("returned", ["close", "with-block", "exception", "garbage"])
def test_the_next_borrower_sees_a_new_session(stage: Stage, way: str, returned: str) -> None:
    pool = stage.pool
    dirty = WAYS[way]
    if returned == "close":
        connection = pool.get_connection()
        dirty(connection)
        connection.close()
    elif returned == "with-block":
        with suppress(pymysql.err.MySQLError), pool.get_connection() as connection:
            dirty(connection)  # commits at its end; some of what was done forbids that
    elif returned == "exception":
        with pytest.raises(ZeroDivisionError), pool.get_connection() as connection:
            dirty(connection)
            1 / 0  # noqa: B018
    else:
        connection = pool.get_connection()
        dirty(connection)
        del connection
        gc.collect()
    stage.check(way)


@pytest.mark.timeout(300)
def test_pairs_of_ways_leave_nothing_either(stage: Stage, sweep: Sweep) -> None:
    for first, second in sweep.some(itertools.combinations(WAYS, 2), 0.1):
        connection = stage.pool.get_connection()
        for way in (first, second):
            with suppress(pymysql.err.MySQLError, LookupError, TypeError):  # the first may forbid the second
                WAYS[way](connection)
        connection.close()
        stage.check(f"{first} and {second}")


TRACKING = b"session_track_state_change"
UNKNOWN = TRACKING[::-1]


def test_a_server_that_can_neither_track_nor_reset_leaves_nothing_either(
    make_pool: MakePool, server: Any, prepared: Any, proxy: Proxy
) -> None:
    """As MariaDB before 10.2 and MySQL before 5.7: every session that was touched is closed."""
    version = prepared.server_version.removeprefix("5.5.5-").partition("-")[0].encode()
    old = (b"10.1." if server.flavor == "mariadb" else b"5.1.").ljust(len(version), b"9")
    proxy.rewrite = lambda data: data.replace(version, old, 1).replace(TRACKING, UNKNOWN)
    options = {"port": proxy.port, "size": 1, "maxsize": 1, "autocommit": False}
    stage = Stage(make_pool(**options), make_pool(**options), prepared)
    for way, dirty in WAYS.items():
        connection = stage.pool.get_connection()
        with suppress(pymysql.err.MySQLError):
            dirty(connection)
        connection.close()
        stage.check(way)
    assert stage.pool.stats().reset == 0
    assert stage.pool.stats().discarded["unresettable"] > 20


def test_a_server_that_cannot_track_is_asked_once_and_reset_whenever_it_was_touched(
    make_pool: MakePool, prepared: Any, proxy: Proxy
) -> None:
    asked = 0

    def refuse(data: bytes) -> bytes:
        nonlocal asked
        asked += data.count(TRACKING)
        return data.replace(TRACKING, UNKNOWN)

    proxy.rewrite = refuse
    pool = make_pool(port=proxy.port, size=3, pre_create_num=3, autocommit=False)
    assert asked == 1
    for statement in ("select v from ledger", "update ledger set v = v", "set @x = 1"):
        connection = pool.get_connection()
        before = connection.thread_id()
        connection.execute(statement)
        connection.close()
        with pool.get_connection() as connection:
            assert connection.thread_id() == before
            connection.execute("select @x")
            assert connection.fetchone() == (None,)
    assert pool.stats().reset == 6  # reading a user variable counts as touching, too


def test_a_borrower_never_reads_another_ones_snapshot(make_pool: MakePool, prepared: Any) -> None:
    """Invariant 9: PyMySQL's server_status does not show the snapshot that a SELECT opens under autocommit=0."""
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    connection = pool.get_connection()
    connection.execute("select v from ledger where id = 1")
    connection.close()
    prepared.cursor().execute("update ledger set v = v + 1000 where id = 1")
    with prepared.cursor() as cursor:
        cursor.execute("select v from ledger where id = 1")
        now = cursor.fetchall()
    connection = pool.get_connection()
    connection.execute("select v from ledger where id = 1")
    assert connection.fetchall() == now
    connection.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_clean_return_after_a_query_costs_no_statement(make_pool: MakePool, prepared: Any, autocommit: bool) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=autocommit, pre_create_num=1)
    with Questions(prepared).during() as counted:
        for _ in range(20):
            connection = pool.get_connection()
            connection.execute("select count(*), max(v) from ledger where id in (1, 2)" if autocommit else "select 1")
            connection.close()
    assert counted == [20]
    assert pool.stats().reset == 0


def test_a_committed_block_costs_its_statements_and_the_commit(make_pool: MakePool, prepared: Any) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False, pre_create_num=1)
    with Questions(prepared).during() as counted, pool.get_connection() as connection:
        connection.execute("update ledger set v = v + 1 where id = 1")
    assert counted == [2]


def test_an_open_transaction_costs_one_rollback(make_pool: MakePool, prepared: Any) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False, pre_create_num=1)
    with Questions(prepared).during() as counted:
        connection = pool.get_connection()
        connection.execute("update ledger set v = v + 1 where id = 1")
        connection.close()
    assert counted == [2]


def test_reset_never_still_rolls_back(make_pool: MakePool, prepared: Any) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True, reset="never")
    connection = pool.get_connection()
    sql("set @x = 1", "begin", "insert into ledger values (500, 1)")(connection)
    connection.close()
    with pool.get_connection() as connection:
        connection.execute("select @x, count(*) from ledger where id = 500")
        assert connection.fetchall() == ((1, 0),)


def test_reset_always_resets_what_looks_clean(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, reset="always")
    pool.get_connection().close()
    assert pool.stats().reset == 1


@pytest.mark.parametrize("pipeline", [True, False])
def test_a_reset_keeps_the_connection_with_or_without_pipelining(
    make_pool: MakePool, prepared: Any, pipeline: bool
) -> None:
    pool = make_pool(size=1, maxsize=1, pipeline_reset=pipeline, init_command="set @y = 8")
    with pool.get_connection() as connection:
        before = connection.thread_id()
        connection.execute("set @x = 1, @y = 2")
    with pool.get_connection() as connection:
        assert connection.thread_id() == before
        connection.execute("select @x, @y, database()")
        assert connection.fetchall() == ((None, 8, "test"),)
    assert pool.stats().created == 1


def test_a_reset_that_fails_only_discards(make_pool: MakePool, prepared: Any) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.execute("set @x = 1")
    prepared.kill(connection.thread_id())
    connection.close()
    assert dict(pool.stats().discarded) == {"reset failed": 1}
    with pool.get_connection() as connection:
        assert connection.execute("select 1") == 1


def test_a_pool_without_a_database_discards_what_has_used_one(make_pool: MakePool, prepared: Any) -> None:
    pool = make_pool(size=1, maxsize=1, database=None)
    with pool.get_connection() as connection:
        connection.select_db("test")
    assert dict(pool.stats().discarded) == {"unresettable": 1}
    with pool.get_connection() as connection:
        connection.execute("select database()")
        assert connection.fetchall() == ((None,),)
