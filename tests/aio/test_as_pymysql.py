"""The same story told by a connection of PyMySQL and by a task's: every answer is the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

from .conftest import Opened

Ask = Callable[[Any], Any]
OF_A_CONNECTION: list[Ask] = [
    lambda c: c.query("CREATE TEMPORARY TABLE story (id INT AUTO_INCREMENT PRIMARY KEY, v INT)"),
    lambda c: c.query("INSERT INTO story (v) VALUES (1), (2)"),
    lambda c: (c.affected_rows(), c.insert_id()),
    lambda c: c.query(b"SELECT 1; SELECT 2"),
    lambda c: c.next_result(),
    lambda c: c.query("SELECT 1/0, 'one'"),
    lambda c: c.show_warnings(),
    lambda c: c.autocommit(True),
    lambda c: bool(c.get_autocommit()),
    lambda c: c.autocommit(True),
    lambda c: c.select_db("mysql"),
    lambda c: c.query("UPDATE test.story SET v = 3"),
    lambda c: c.set_character_set("latin1"),
    lambda c: (c.charset, c.encoding, c.character_set_name()),
    lambda c: c.set_character_set("utf8mb4", "utf8mb4_bin"),
    lambda c: (c.escape("it's"), c.escape(7)),
    lambda c: (c.host, c.port, c.unix_socket, c.get_host_info(), c.get_proto_info(), c.get_server_info()),
    lambda c: c.server_status & 3,  # in a transaction, autocommit
    lambda c: c.begin(),
    lambda c: c.rollback(),
]
OF_A_CURSOR: list[Ask] = [
    lambda c: c.execute("CREATE TEMPORARY TABLE story (id INT AUTO_INCREMENT PRIMARY KEY, v INT)"),
    lambda c: c.executemany("INSERT INTO story (v) VALUES (%s)", [(n,) for n in range(20)]),
    lambda c: (c.rowcount, c.lastrowid),
    lambda c: setattr(c, "max_stmt_length", 60),
    lambda c: c.max_stmt_length,
    lambda c: c.executemany("INSERT INTO story (v) VALUES (%s)", [(n,) for n in range(20)]),
    lambda c: c.executemany("UPDATE story SET v = v + 1 WHERE id = %s", [(1,), (2,)]),
    lambda c: c.executemany("UPDATE story SET v = 1", []),
    lambda c: c.mogrify("SELECT %s", ("it's",)),
    lambda c: c.execute("SELECT id, v FROM story WHERE id > %s ORDER BY id", (30,)),
    lambda c: [column[:2] for column in c.description],
    lambda c: c.fetchone(),
    lambda c: c.fetchmany(),
    lambda c: (setattr(c, "arraysize", 3), c.arraysize),
    lambda c: c.fetchmany(),
    lambda c: c.fetchmany(2),
    lambda c: c.rownumber,
    lambda c: c.scroll(1),
    lambda c: c.fetchall(),
    lambda c: c.nextset(),
    lambda c: c.execute("SELECT 1 AS a; SELECT 2 AS b; DO 0"),
    lambda c: c.fetchall(),
    lambda c: c.nextset(),
    lambda c: c.fetchall(),
    lambda c: c.execute("SELECT 1 AS a; SELECT 2 AS b"),  # with results left
    lambda c: c.execute("SELECT 3 AS c"),
    lambda c: c.fetchall(),
    lambda c: c.callproc("told", (5, "six")),
    lambda c: c.fetchall(),
    lambda c: c.nextset(),
    lambda c: c.execute("SELECT @_told_0, @_told_1"),
    lambda c: c.fetchall(),
    lambda c: c.callproc("told_nothing"),
    lambda c: (c.setinputsizes(1), c.setoutputsizes(1)),
]


async def answer(ask: Ask, teller: Any) -> Any:
    try:
        value = ask(teller)
        return await value if inspect.isawaitable(value) else value
    except pymysql.err.MySQLError as error:
        return type(error), error.args


@pytest.fixture
def arguments(connect_args: dict[str, Any], admin: Any) -> dict[str, Any]:
    with admin.cursor() as cursor:
        for name, body in (("told(a INT, b TEXT)", "SELECT a, b"), ("told_nothing()", "DO 0")):
            cursor.execute(f"DROP PROCEDURE IF EXISTS {name.partition('(')[0]}")
            cursor.execute(f"CREATE PROCEDURE {name} {body}")
    return {**connect_args, "client_flag": CLIENT.MULTI_STATEMENTS, "autocommit": False}


def test_a_connection_answers_as_pymysqls(opened: Opened, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with opened(**arguments) as pool, pool.get_connection() as ours:
            for number, ask in enumerate(OF_A_CONNECTION):
                assert await answer(ask, ours) == await answer(ask, theirs), number
            assert (ours.get_transaction_status(), ours.db, ours.user) == (False, theirs.db.decode(), arguments["user"])
            assert await ours.query("SELECT CONNECTION_ID()") == 1
            await ours.kill(theirs.thread_id())

    with pymysql.connect(**arguments) as theirs:
        asyncio.run(main())
        with pytest.raises(pymysql.err.OperationalError):
            theirs.query("SELECT 1")


@pytest.mark.filterwarnings("ignore:Previous unbuffered result was left incomplete")
@pytest.mark.parametrize("kind", [Cursor, DictCursor, SSCursor, SSDictCursor])
def test_a_cursor_answers_as_pymysqls(opened: Opened, arguments: dict[str, Any], kind: type[Cursor]) -> None:
    async def main() -> None:
        async with opened(**arguments) as pool, pool.get_connection() as connection:
            async with connection.cursor(kind) as ours:
                for number, ask in enumerate(OF_A_CURSOR):
                    assert await answer(ask, ours) == await answer(ask, theirs), number
                assert not ours.closed
            assert ours.closed

    with pymysql.connect(**arguments) as other, other.cursor(kind) as theirs:
        asyncio.run(main())


def test_a_result_half_read_is_read_to_its_end_before_the_next_statement(opened: Opened) -> None:
    async def main() -> None:
        async with opened(autocommit=True) as pool, pool.get_connection() as connection:
            half = connection.cursor(SSCursor)
            await half.execute("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3")
            assert await half.fetchone() == (1,)
            with pytest.warns(UserWarning, match="left incomplete"):
                await connection.query("SELECT 4")
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT 5")
                assert [row async for row in cursor] == [(5,)]

    asyncio.run(main())
