"""Code and libraries that were written for asyncmy run on `pymysqlpool.asyncmy` by changing one import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from pymysqlpool import asyncmy

from .test_aiomysql import SQLALCHEMY, TORTOISE

PROGRAM = """
import asyncio, sys
from pymysqlpool.asyncmy import install_as_asyncmy
install_as_asyncmy()
HOST, PORT, PASSWORD, DATABASE = sys.argv[1:]
"""
PROGRAMS = {
    "sqlalchemy": SQLALCHEMY.replace("import aiomysql", "import asyncmy as aiomysql").replace("+aiomysql", "+asyncmy"),
    "tortoise": TORTOISE.replace('sys.modules["asyncmy"] = None\n', 'sys.modules["aiomysql"] = None\n'),
}


@pytest.fixture
def arguments(connect_args: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in connect_args.items() if name in ("host", "port", "user", "password")}
    return {**found, "ssl_disabled": True, "database": connect_args["database"]}


@pytest.mark.parametrize("library", PROGRAMS)
def test_a_library_that_imports_asyncmy_runs(library: str, connect_args: dict[str, Any]) -> None:
    pytest.importorskip(library)
    where = [connect_args["host"], str(connect_args["port"]), connect_args.get("password", "")]
    program = PROGRAM + PROGRAMS[library] + "\nasyncio.run(main())\n"
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program, *where, connect_args["database"]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr


def test_a_connection_that_is_made_first_and_connected_later(arguments: dict[str, Any]) -> None:
    async def main() -> None:
        connection = asyncmy.Connection(**arguments, echo=True)
        assert not connection.connected
        assert "not connected" in repr(connection)
        assert arguments["password"] not in repr(vars(connection)) or not arguments["password"]
        with pytest.raises(asyncmy.InterfaceError, match=r"await connection\.connect\(\)"):
            connection.cursor()
        with pytest.raises(asyncmy.InterfaceError, match=r"await connection\.connect\(\)"):
            await connection.commit()
        connection.close()
        await connection.ensure_closed()

        await connection.connect()
        await connection.connect()
        assert connection.connected
        async with connection.cursor(cursor=asyncmy.cursors.DictCursor) as cursor:
            await cursor.execute("SELECT 1 AS a")
            assert await cursor.fetchall() == [{"a": 1}]
        await connection.ensure_closed()
        assert not connection.connected
        with pytest.raises(asyncmy.Error):
            connection.cursor()

        await connection.connect()
        assert connection.connected
        connection.close()
        assert not connection.connected
        with pytest.raises(asyncmy.OperationalError):
            await asyncmy.Connection(**{**arguments, "port": 1}).connect()
        with pytest.raises(TypeError, match="keyword"):
            asyncmy.Connection("127.0.0.1")

    asyncio.run(main())


def test_the_pool_of_asyncmys_manual(arguments: dict[str, Any]) -> None:
    async def main() -> None:
        async with asyncmy.connect(**arguments) as connection:
            assert connection.connected
        pool = await asyncmy.create_pool(minsize=1, maxsize=2, **arguments)
        assert (pool.minsize, pool.maxsize, pool.size, pool.freesize) == (1, 2, 1, 1)
        async with pool.acquire() as connection:
            assert isinstance(connection, asyncmy.Connection)
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT %s", (42,))
                assert await cursor.fetchone() == (42,)
        connection = await pool.acquire()
        assert connection.connected
        await pool.release(connection)
        assert not connection.connected
        pool.close()
        await pool.wait_closed()

    asyncio.run(main())
