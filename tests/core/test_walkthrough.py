"""The walkthrough in the README of pymysql-pool 0.3.7, on a real server (step 4 means con2 in the with-block)."""

from __future__ import annotations

import logging
from time import monotonic

import pytest

import pymysqlpool
from tests.conftest import MakePool
from tests.support import wait_until


def test_the_old_readme_walkthrough_holds(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pymysqlpool")

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    pool1 = make_pool(size=2, maxsize=3, pre_create_num=2, name="pool1", autocommit=True)
    assert said() == ["Create new connection in pool(pool1)"] * 2
    assert pool1.size == 2
    con1 = pool1.get_connection()
    con2 = pool1.get_connection()
    assert said() == ["Get connection from pool(pool1)"] * 2
    assert pool1.size == 0

    con3 = pool1.get_connection()
    assert said() == [
        *["Retry to get connection from pool(pool1)"] * 3,
        "Create new connection in pool(pool1)",
        "Get connection from pool(pool1)",
    ]

    with pytest.raises(pymysqlpool.GetConnectionFromPoolError, match=r"can't get connection from pool\(pool1\)"):
        pool1.get_connection()
    assert said() == ["Retry to get connection from pool(pool1)"] * 3

    con1.close()
    assert said() == ["Put connection back to pool(pool1)"]
    with con2 as cur:
        assert cur.execute("select 1+1") == 1
        assert cur.fetchone() == (2,)
        assert cur.fetchall() == ()
    assert said() == ["Put connection back to pool(pool1)"]
    assert pool1.size == 2
    assert (pool1.connection_num, pool1.available_num, pool1.total_num) == (3, 2, 3)
    con3.close()
    assert pool1.size == 3


def test_a_log_that_is_turned_on_tells_of_the_next_lease(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    pool = make_pool(size=1, name="told", pre_create_num=1)
    slot = pool._ledger.idle_slots()[0]
    for level, expected in (
        (logging.DEBUG, ["Get connection from pool(told)", "Put connection back to pool(told)"]),
        (logging.INFO, []),
    ):
        pool.get_connection().close()
        caplog.set_level(level, logger="pymysqlpool")
        caplog.clear()
        wait_until(lambda: monotonic() > slot.fresh_until, "the server was heard a while ago")
        pool.get_connection().close()
        assert [record.getMessage() for record in caplog.records] == expected


def test_execute_query_gives_the_connection_back_as_in_the_old_package(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    assert pool.get_connection().execute_query("select 1+1") == ((2,),)
    assert pool.size == 1
    assert pool.get_connection().execute_query("select %s as x", ("a",), dictcursor=True, return_one=True) == {"x": "a"}
    assert pool.get_connection().execute_query("select 1 from dual where 1 = 0", return_one=True) is None
    pool.get_connection().execute_query("drop table if exists many")
    pool.get_connection().execute_query("create table many (a int)")
    pool.get_connection().execute_query("insert into many values (%s)", [(1,), (2,)], exec_many=True)
    assert pool.get_connection().execute_query("select a from many order by a") == ((1,), (2,))
    with pool.get_connection() as connection:
        assert connection.execute_query("select 1") == ((1,),)
        assert connection.execute_query("select 2") == ((2,),)
        assert pool.size == 0
    assert pool.size == 1


def test_a_connection_without_a_pool_is_pymysqls(connect_args: dict[str, object]) -> None:
    connection = pymysqlpool.Connection(**connect_args)  # type: ignore[arg-type]
    with connection as same:
        assert same is connection
        assert connection.cursor().execute("select 1") == 1
    assert not connection.open
    connection = pymysqlpool.Connection(**connect_args)  # type: ignore[arg-type]
    assert connection.execute_query("select 1") == ((1,),)
    assert not connection.open


def test_importing_leaves_logging_and_warnings_alone() -> None:
    assert pymysqlpool.logger.name == "pymysqlpool"
    assert pymysqlpool.logger.handlers == []
