"""Blocks on a websocket's connection: the tasks that are started inside share it, as long as the block is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection

from .support import Make, Socket, run

INSERT = "INSERT INTO item VALUES (%s)"


async def save(number: int) -> None:
    await (await current_async_connection()).cursor().execute(INSERT, (number,))


def save_in_a_thread(number: int) -> None:
    current_connection().cursor().execute(INSERT, (number,))


async def of_the_connection(scope: Any) -> AbstractAsyncContextManager[Any]:
    return await current_async_connection()


async def a_transaction(scope: Any) -> AbstractAsyncContextManager[Any]:
    return (await current_async_connection()).transaction()


async def a_unit(scope: Any) -> AbstractAsyncContextManager[Any]:
    unit: AbstractAsyncContextManager[Any] = scope["pymysqlpool.scope"].unit()
    return unit


ALL = pytest.mark.parametrize("block", [of_the_connection, a_transaction, a_unit], ids=lambda block: block.__name__)
THAT_COMMIT = pytest.mark.parametrize("block", [of_the_connection, a_transaction], ids=lambda block: block.__name__)


def served(make: Make, message: Callable[[Any], Any], **options: Any) -> None:
    """Handle one message."""
    pool = make(**options)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await message(scope)
        await send({"type": "websocket.send", "text": "done"})
        await receive()

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        await one.ask_once("?")
        assert pool.stats().in_use == 0
        await one.leave()

    run(main)


@THAT_COMMIT
def test_what_tasks_and_threads_of_a_block_write_is_committed_with_it(
    make: Make, table: Callable[[], list[int]], block: Any
) -> None:
    async def message(scope: Any) -> None:
        async with await block(scope):
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(save(number))
            await asyncio.to_thread(save_in_a_thread, 3)

    served(make, message, size=1, maxsize=1, timeout=1)
    assert table() == [0, 1, 2, 3]


@THAT_COMMIT
def test_what_they_write_is_undone_with_it(make: Make, table: Callable[[], list[int]], block: Any) -> None:
    async def message(scope: Any) -> None:
        with pytest.raises(LookupError):
            async with await block(scope):
                await asyncio.gather(*map(save, range(3)))
                raise LookupError

    served(make, message, size=1, maxsize=1, timeout=1)
    assert table() == []


@THAT_COMMIT
def test_threads_of_several_tasks_keep_apart_in_a_block_each(
    make: Make, table: Callable[[], list[int]], block: Any
) -> None:
    met = threading.Barrier(2)

    def save_and_fail(number: int, fails: bool) -> None:
        save_in_a_thread(number)
        met.wait(10)
        if fails:
            raise LookupError

    async def task(scope: Any, number: int, fails: bool) -> None:
        async with await block(scope):
            await asyncio.to_thread(save_and_fail, number, fails)

    async def message(scope: Any) -> None:
        tasks = [asyncio.create_task(task(scope, 1, fails=False)), asyncio.create_task(task(scope, 2, fails=True))]
        assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [
            type(None),
            LookupError,
        ]

    served(make, message)
    assert table() == [1]


@ALL
def test_a_task_that_outlives_its_block_has_a_connection_of_its_own(
    make: Make, table: Callable[[], list[int]], block: Any
) -> None:
    """Else a rollback of the one would undo what the other one has written."""
    ended, wrote, undone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def outlives() -> None:
        await current_async_connection()
        await ended.wait()
        await save(1)
        wrote.set()
        await undone.wait()
        await (await current_async_connection()).commit()

    async def message(scope: Any) -> None:
        async with await block(scope), await block(scope):
            late = asyncio.create_task(outlives())
            await asyncio.sleep(0)
        ended.set()
        await wrote.wait()
        await save(2)
        await (await current_async_connection()).rollback()
        undone.set()
        await late

    served(make, message)
    assert table() == [1]
