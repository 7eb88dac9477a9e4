"""Code and libraries that were written for aiomysql run on `pymysqlpool.aiomysql` by changing one import.

The same programs run on aiomysql itself, where it is installed: what it answers is right.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.constants import FIELD_TYPE

PROGRAM = """
import asyncio, sys
from pymysqlpool.aiomysql import install_as_aiomysql
install_as_aiomysql()
HOST, PORT, PASSWORD, DATABASE = sys.argv[1:]
"""

SQLALCHEMY = """
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from pymysqlpool import aiomysql

async def main():
    pool = await aiomysql.create_pool(
        minsize=1, maxsize=3, host=HOST, port=int(PORT), user="root", password=PASSWORD, db=DATABASE, ssl_disabled=True
    )
    url = "mysql+aiomysql://"
    engine = create_async_engine(url, async_creator=pool.acquire, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE alchemy (id INT PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB"))
        rows = [{"id": number, "name": str(number)} for number in range(10)]
        await connection.execute(text("INSERT INTO alchemy VALUES (:id, :name)"), rows)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO alchemy VALUES (99, 'undone')"))
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT COUNT(*), MAX(name) FROM alchemy"))).one() == (10, "9")
        result = await connection.stream(text("SELECT id FROM alchemy ORDER BY id"))
        assert [row.id async for row in result] == list(range(10))

    async def one(number):
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT :n"), {"n": number})).scalar()

    assert await asyncio.gather(*(one(number) for number in range(30))) == list(range(30))
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE alchemy"))
    await engine.dispose()
    assert pool.size <= 3
    pool.close()
    await pool.wait_closed()
"""

TORTOISE = """
sys.modules["asyncmy"] = None
from tortoise import Tortoise, fields
from tortoise.models import Model
from tortoise.transactions import in_transaction

class Event(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=50)

async def main():
    credentials = {"host": HOST, "port": int(PORT), "user": "root", "password": PASSWORD, "database": DATABASE}
    await Tortoise.init(
        config={
            "connections": {
                "default": {
                    "engine": "tortoise.backends.mysql",
                    "credentials": {**credentials, "minsize": 1, "maxsize": 3, "ssl_disabled": True},
                }
            },
            "apps": {"models": {"models": [__name__], "default_connection": "default"}},
        }
    )
    await Tortoise.generate_schemas()
    await Event.bulk_create([Event(name=str(number)) for number in range(50)])
    first = await Event.create(name="first")
    assert first.id == 51 and await Event.filter(name="first").count() == 1
    try:
        async with in_transaction():
            await Event.create(name="undone")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    async with in_transaction() as connection:
        await Event.create(name="done", using_db=connection)
        try:
            async with in_transaction():
                await Event.create(name="undone")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    assert await Event.filter(name__in=["done", "undone"]).values_list("name", flat=True) == ["done"]
    counts = await asyncio.gather(*(Event.all().count() for _ in range(20)))
    assert counts == [52] * 20
    await Tortoise.get_connection("default").execute_script("DROP TABLE event") if hasattr(
        Tortoise, "get_connection") else None
    await Tortoise.close_connections()
"""

DATABASES = """
from databases import Database

async def main():
    url = f"mysql+aiomysql://root:{PASSWORD}@{HOST}:{PORT}/{DATABASE}"
    database = Database(url, min_size=1, max_size=3, ssl_disabled=True)
    await database.connect()
    await database.execute("CREATE TABLE encoded (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20)) ENGINE=InnoDB")
    await database.execute_many("INSERT INTO encoded(name) VALUES (:name)", [{"name": str(n)} for n in range(5)])
    assert await database.execute("INSERT INTO encoded(name) VALUES (:name)", {"name": "x"}) == 6
    try:
        async with database.transaction():
            await database.execute("INSERT INTO encoded(name) VALUES ('undone')")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert await database.fetch_val("SELECT COUNT(*) FROM encoded") == 6
    assert len([row async for row in database.iterate("SELECT * FROM encoded")]) == 6
    await database.execute("DROP TABLE encoded")
    await database.disconnect()
"""


@pytest.mark.parametrize(
    ("library", "program"), [("sqlalchemy", SQLALCHEMY), ("tortoise", TORTOISE), ("databases", DATABASES)]
)
def test_a_library_that_imports_aiomysql_runs(library: str, program: str, connect_args: dict[str, Any]) -> None:
    pytest.importorskip(library)
    where = [
        connect_args["host"],
        str(connect_args["port"]),
        connect_args.get("password", ""),
        connect_args["database"],
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", PROGRAM + program + "\nasyncio.run(main())\n", *where],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr


@pytest.fixture(params=["pymysqlpool.aiomysql", "aiomysql"])
def aiomysql(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Ours, and the one whose habits it has."""
    if request.param == "aiomysql":
        pytest.importorskip("aiomysql")
    return importlib.import_module(request.param)


@pytest.fixture
def arguments(connect_args: dict[str, Any], aiomysql: Any) -> dict[str, Any]:
    found = {name: value for name, value in connect_args.items() if name in ("host", "port", "user", "password")}
    if aiomysql.__name__ != "aiomysql":
        found["ssl_disabled"] = True
    return {"password": "", **found, "db": connect_args["database"]}


def test_the_tutorial_of_aiomysql(aiomysql: Any, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        pool = await aiomysql.create_pool(minsize=2, maxsize=4, **arguments)
        assert (pool.minsize if aiomysql.__name__ == "aiomysql" else 2, pool.maxsize) == (2, 4)
        assert (pool.size, pool.freesize) == (2, 2)
        async with pool.acquire() as connection:
            assert (pool.size, pool.freesize) == (2, 1)
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT 42;")
                assert cursor.description[0][0] == "42"
                assert await cursor.fetchone() == (42,)
                assert await cursor.fetchone() is None
            cursor = await connection.cursor(aiomysql.DictCursor)
            assert await cursor.execute("SELECT 1 AS a, %s AS b", ("x",)) == 1
            assert await cursor.fetchall() == [{"a": 1, "b": "x"}]
            await cursor.close()
            async with connection.cursor(aiomysql.SSCursor) as cursor:
                await cursor.execute("SELECT seq FROM seq_1_to_1000")
                assert await cursor.fetchmany(2) == [(1,), (2,)]
                await cursor.scroll(3)
                assert [row async for row in cursor] == [(number,) for number in range(6, 1001)]
        connection = await pool.acquire()
        assert connection.get_autocommit() is False
        await connection.ping()
        assert connection.escape("it's") == "'it\\'s'"
        assert isinstance(connection.thread_id(), int)
        assert (connection.host, connection.db, connection.user) == (arguments["host"], arguments["db"], "root")
        await connection.select_db(arguments["db"])
        pool.release(connection)
        pool.close()
        await pool.wait_closed()

    asyncio.run(main())


def test_a_block_of_acquire_commits_nothing_unless_autocommit(aiomysql: Any, arguments: dict[str, Any]) -> None:
    async def count(pool: Any) -> Any:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT COUNT(*) FROM habit")
            return (await cursor.fetchone())[0]

    async def write(pool: Any, commits: bool) -> None:
        async with pool.acquire() as connection:
            async with connection.cursor() as cursor:
                await cursor.execute("INSERT INTO habit VALUES (1)")
            if commits:
                await connection.commit()

    async def main() -> None:
        async with aiomysql.create_pool(autocommit=True, **arguments) as pool:
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("CREATE TABLE habit (id INT) ENGINE=InnoDB")
            await write(pool, commits=False)
            assert await count(pool) == 1
        async with aiomysql.create_pool(**arguments) as pool:
            await write(pool, commits=False)
            assert await count(pool) == 1
            await write(pool, commits=True)
            assert await count(pool) == 2
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("DROP TABLE habit")

    asyncio.run(main())


@pytest.mark.parametrize("used", [False, True])
def test_a_clean_connection_is_free_as_soon_as_release_returns(
    aiomysql: Any, arguments: dict[str, Any], used: bool
) -> None:
    async def main() -> None:
        async with aiomysql.create_pool(minsize=2, **arguments) as pool:
            connection = await pool.acquire()
            if used:
                async with connection.cursor() as cursor:
                    await cursor.execute("SELECT 1")
                    await cursor.fetchall()
            assert pool.freesize == 1
            pool.release(connection)
            assert pool.freesize == 2

    asyncio.run(main())


def test_a_connection_of_no_pool(aiomysql: Any, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        connection = await aiomysql.connect(**arguments)
        cursor = await connection.cursor()
        await cursor.execute("SELECT 1")
        assert await cursor.fetchall() in (((1,),), [(1,)])
        assert not connection.closed
        connection.close()
        assert connection.closed
        async with aiomysql.connect(**arguments) as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT 2")
        assert connection.closed
        with pytest.raises(aiomysql.OperationalError):
            await aiomysql.connect(**{**arguments, "port": 1})

    asyncio.run(main())


def test_a_pool_that_is_closed_lends_no_more_and_waits_for_what_is_lent(
    aiomysql: Any, arguments: dict[str, Any]
) -> None:
    async def main() -> None:
        pool = await aiomysql.create_pool(minsize=1, maxsize=1, **arguments)
        connection = await pool.acquire()
        pool.close()
        with pytest.raises(RuntimeError, match="after closing"):
            await pool.acquire()
        waiting = asyncio.create_task(pool.wait_closed())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        pool.release(connection)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


def test_what_is_lent_is_closed_as_soon_as_the_pool_is_terminated(aiomysql: Any, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        pool = await aiomysql.create_pool(**arguments)
        connection = await pool.acquire()
        unused = await pool.acquire()
        await (await connection.cursor()).execute("SELECT 1")
        pool.terminate()
        assert connection.closed
        assert unused.closed
        await pool.wait_closed()
        await pool.release(connection)
        await pool.release(unused)

    asyncio.run(main())


def test_echo_logs_each_statement(aiomysql: Any, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with aiomysql.create_pool(echo=True, **arguments) as pool:
            assert pool.echo
            async with pool.acquire() as connection, connection.cursor() as cursor:
                assert connection.echo
                await cursor.execute("SELECT %s", ("some text",))
        async with aiomysql.connect(echo=True, **arguments) as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT 2")
        async with aiomysql.connect(**arguments) as connection, connection.cursor() as cursor:
            assert not connection.echo
            await cursor.execute("SELECT 3")

    with caplog.at_level("INFO", logger="aiomysql"):
        asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "aiomysql"]
    assert said == ["SELECT 'some text'", "('some text',)", "SELECT 2", "None"]


def test_a_pool_is_no_plain_context_manager(aiomysql: Any, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with aiomysql.create_pool(**arguments) as pool:
            with pytest.raises(RuntimeError), pool:
                raise AssertionError

    asyncio.run(main())


@pytest.mark.parametrize("others", [(), ("DictCursor",), ("SSCursor",), ("SSCursor", "DictCursor")], ids=str)
def test_json_columns_are_decoded(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, others: Any) -> None:
    """MariaDB has none on the wire, so the type of a text stands for theirs here."""
    from pymysqlpool import aiomysql

    monkeypatch.setattr(FIELD_TYPE, "JSON", FIELD_TYPE.VAR_STRING)
    kinds = [getattr(aiomysql, name) for name in others]
    statement = """SELECT 1 AS a, '{"k": [1]}' AS b, '"2"' AS c, 'no json' AS d"""

    async def main() -> Any:
        async with (
            aiomysql.connect(**arguments) as connection,
            connection.cursor(*kinds, aiomysql.cursors.DeserializationCursor) as cursor,
        ):
            await cursor.execute(statement)
            return await cursor.fetchone()

    row = asyncio.run(main())
    wanted = {"a": 1, "b": {"k": [1]}, "c": "2", "d": "no json"}
    assert row == (wanted if "DictCursor" in others else tuple(wanted.values()))
