"""CALL: the OK packet that ends it is read for borrowers that do not ask for it, and nothing beyond it is."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pymysql
import pytest

from tests.conftest import MakePool

PROCEDURES = {
    "one_result": "SELECT 1 AS one",
    "two_results": "BEGIN SELECT 1; SELECT 2; END",
    "result_then_set": "BEGIN SELECT 1; SET @x = 5; END",
    "result_then_work": "BEGIN SELECT 1; DO SLEEP(20); END",
    "result_then_transaction": "BEGIN SELECT 1; START TRANSACTION; UPDATE call_rows SET v = v + 1; END",
}


@pytest.fixture(scope="module", autouse=True)
def procedures(server: Any) -> Iterator[None]:
    admin = pymysql.connect(**server.connect_args, ssl_disabled=True, autocommit=True)
    with admin.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS call_rows (v INT) ENGINE=InnoDB")
        cursor.execute("INSERT INTO call_rows VALUES (1)")
        for name, body in PROCEDURES.items():
            cursor.execute(f"DROP PROCEDURE IF EXISTS {name}")
            cursor.execute(f"CREATE PROCEDURE {name}() {body}")
    yield
    admin.close()


@pytest.mark.parametrize("name", ["one_result", "result_then_set", "result_then_transaction"])
@pytest.mark.parametrize("options", [{}, {"autocommit": True}, {"reset": "always"}], ids=str)
def test_a_procedure_whose_last_reply_is_unread_costs_no_login(
    make_pool: MakePool, name: str, options: dict[str, Any]
) -> None:
    pool = make_pool(size=1, maxsize=1, **options)
    for _ in range(20):
        connection = pool.get_connection()
        cursor = connection.cursor()
        cursor.callproc(name)
        assert cursor.fetchall() == ((1,),)
        connection.close()
    stats = pool.stats()
    assert (stats.created, dict(stats.discarded)) == (1, {})
    with pool.get_connection() as connection:
        connection.execute("SELECT @x, (SELECT MAX(v) FROM call_rows)")
        assert connection.fetchall() == ((None, 1),)


def test_a_further_result_set_is_not_read(make_pool: MakePool) -> None:
    """Invariant 10."""
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.cursor().callproc("two_results")
    connection.close()
    assert dict(pool.stats().discarded) == {"interrupted": 1}


def test_a_procedure_that_goes_on_working_is_not_waited_for(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.cursor().callproc("result_then_work")
    began = monotonic()
    connection.close()
    assert monotonic() - began < 5
    assert dict(pool.stats().discarded) == {"interrupted": 1}
