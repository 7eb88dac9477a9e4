"""A with-block of a thread inside a with-block of a task is a part of it (Invariant 23)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pymysqlpool import Connection
from pymysqlpool.asgi import current_async_connection
from pymysqlpool.request_scope import current_connection

from .support import Exchange, Make, answer_two, routes, run

Write = Callable[[Connection, int], None]
Table = Callable[[], list[int]]
INSERT = "INSERT INTO item VALUES (%s)"


def by_a_with_block(connection: Connection, number: int) -> None:
    with connection as same:
        same.cursor().execute(INSERT, (number,))


def by_execute_query(connection: Connection, number: int) -> None:
    connection.execute_query(INSERT, (number,))


EACH = pytest.mark.parametrize("write", [by_a_with_block, by_execute_query])


async def in_threads(write: Write, number: int) -> None:
    await asyncio.to_thread(lambda: write(current_connection(), number))


async def inside_and_outside(write: Write, table: Table) -> None:
    """A block that ends well, one that does not, and a thread without a block around it."""
    async with await current_async_connection() as connection:
        await in_threads(write, 1)
        assert await asyncio.to_thread(table) == []
        await connection.cursor().execute(INSERT, (2,))
    assert await asyncio.to_thread(table) == [1, 2]
    with pytest.raises(KeyError):
        async with await current_async_connection():
            await in_threads(write, 3)
            raise KeyError
    await in_threads(write, 4)
    assert await asyncio.to_thread(table) == [1, 2, 4]


@EACH
def test_of_a_request(make: Make, table: Table, write: Write) -> None:
    pool = make()

    async def nested(request: Request) -> PlainTextResponse:
        await inside_and_outside(write, table)
        return PlainTextResponse("")

    async def main() -> None:
        assert (await Exchange(routes(pool, nested), "/nested").run()).status == 200

    run(main)
    assert table() == [1, 2, 4]
    assert pool.stats().in_use == 0


@EACH
def test_of_a_websocket(make: Make, table: Table, write: Write) -> None:
    pool = make()

    async def message() -> None:  # for the second one the task borrows again
        await inside_and_outside(write, table)
        await (await current_async_connection()).cursor().execute("DELETE FROM item")
        await (await current_async_connection()).commit()

    run(lambda: answer_two(pool, message))
    assert pool.stats().in_use == 0


@EACH
@pytest.mark.parametrize("fails", [False, True])
def test_of_a_connection_that_no_request_owns(make: Make, table: Table, write: Write, fails: bool) -> None:
    pool = make(size=1, maxsize=1)

    async def block() -> None:
        async with pool.get_connection() as connection:
            await connection.run_sync(write, 1)
            assert await asyncio.to_thread(table) == []
            if fails:
                raise KeyError

    async def main() -> None:
        if fails:
            with pytest.raises(KeyError):
                await block()
        else:
            await block()
        connection = await pool.get_connection()
        await connection.run_sync(write, 2)  # no block is around it: it commits, and gives back
        assert connection.closed

    run(main)
    assert table() == ([2] if fails else [1, 2])
    assert pool.stats().in_use == 0
