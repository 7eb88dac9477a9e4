"""A connection that is lost in a request: it does not stay lost, and nothing goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymysql.err import OperationalError

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection
from tests.support import wait_until

from .support import Exchange, Make, Socket, run, value


async def plainly() -> None:
    await value(await current_async_connection(), "SELECT 1")


async def in_a_block() -> None:
    async with await current_async_connection() as connection:
        await value(connection, "SELECT 1")


async def in_a_thread() -> None:
    await asyncio.to_thread(lambda: current_connection().cursor().execute("SELECT 1"))


async def by_a_short_cut() -> None:
    await asyncio.to_thread(lambda: current_connection().execute_query("SELECT 1"))


USES = pytest.mark.parametrize("use", [plainly, in_a_block, in_a_thread, by_a_short_cut], ids=lambda use: use.__name__)
KINDS = pytest.mark.parametrize("kind", ["request", "websocket"])


def served(pool: AsyncConnectionPool, kind: str, handle: Callable[[], Awaitable[None]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if kind == "websocket":
            await receive()
        await handle()
        if kind == "websocket":
            await send({"type": "websocket.send", "text": "done"})
            await receive()
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        if kind == "request":
            await Exchange(PoolMiddleware(app, pool)).run()
        else:
            one = Socket(PoolMiddleware(app, pool))
            await one.ask_once("?")
            await one.leave()

    run(main)


async def lose_it(admin: Any, statement: str) -> None:
    connection = await current_async_connection()
    await connection.cursor().execute(statement)
    number = connection.lease.thread_id()  # type: ignore[no-untyped-call]

    def is_gone() -> bool:
        with admin.cursor() as cursor:
            return not cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", (number,))

    await asyncio.to_thread(admin.kill, number)
    await asyncio.to_thread(wait_until, is_gone, "killed")


@USES
@KINDS
def test_the_next_use_has_a_new_session_when_nothing_was_lost(
    make: Make, admin: Any, use: Callable[[], Awaitable[None]], kind: str
) -> None:
    async def handle() -> None:
        await lose_it(admin, "SELECT 1")
        with pytest.raises(OperationalError):
            await use()
        await use()

    served(make(), kind, handle)


@USES
@KINDS
def test_uncommitted_changes_are_named_before_there_is_a_new_session(
    make: Make, table: Callable[[], list[int]], admin: Any, use: Callable[[], Awaitable[None]], kind: str
) -> None:
    async def handle() -> None:
        await lose_it(admin, "INSERT INTO item VALUES (1)")
        with pytest.raises(OperationalError):
            await use()
        with pytest.raises(OperationalError, match="uncommitted changes") as told:
            await use()
        assert told.value.args[0] == 2006
        await use()

    served(make(), kind, handle)
    assert table() == []


def test_a_block_that_lost_its_session_gets_no_other_one(
    make: Make, table: Callable[[], list[int]], admin: Any
) -> None:
    async def handle() -> None:
        with pytest.raises(OperationalError):
            async with (await current_async_connection()).transaction() as connection:
                await lose_it(admin, "INSERT INTO item VALUES (1)")
                with pytest.raises(OperationalError):
                    await value(connection, "SELECT 1")
                for _ in range(2):
                    with pytest.raises(OperationalError, match="leave the block"):
                        await current_async_connection()
                await value(connection, "SELECT 1")
        await plainly()

    served(make(), "request", handle)
    assert table() == []
