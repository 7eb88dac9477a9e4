"""A websocket's commit that finds nothing, because the changes were those of a task that it has started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pymysqlpool.asgi import current_async_connection
from pymysqlpool.errors import TransactionLostError
from tests.aio.support import all_home

from .support import Make, answer_two, run

INSERT = "INSERT INTO item VALUES (%s)"


async def save(number: int) -> None:
    await (await current_async_connection()).cursor().execute(INSERT, (number,))


async def save_and_commit(number: int) -> None:
    await save(number)
    await (await current_async_connection()).commit()


async def gathered(work: Coroutine[Any, Any, None]) -> None:
    await asyncio.gather(work)


async def in_a_group(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work)


async def awaited(work: Coroutine[Any, Any, None]) -> None:
    await asyncio.create_task(work)


async def shielded(work: Coroutine[Any, Any, None]) -> None:
    await asyncio.shield(work)


async def polled(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.sleep(0)


def served(make: Make, message: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Handle two messages."""
    pool = make()

    async def main() -> None:
        await answer_two(pool, message)
        await all_home(pool)

    run(main)


@pytest.mark.parametrize("way", [gathered, in_a_group, awaited, shielded, polled])
def test_it_is_an_error_once(make: Make, table: Callable[[], list[int]], way: Callable[..., Any]) -> None:
    async def message() -> None:
        await way(save(1))
        connection = await current_async_connection()
        with pytest.raises(TransactionLostError, match=r"nothing to commit here.* ended with uncommitted changes"):
            await connection.commit()
        await connection.commit()

    served(make, message)
    assert table() == []


def test_the_starter_is_told_and_no_other_task(make: Make, table: Callable[[], list[int]]) -> None:
    async def worker() -> None:
        await current_async_connection()  # from now on it is known as the starter
        await gathered(save(1))
        with pytest.raises(TransactionLostError):
            await (await current_async_connection()).commit()

    async def message() -> None:
        await asyncio.create_task(worker())
        await (await current_async_connection()).commit()

    served(make, message)
    assert table() == []


async def commits_its_own() -> None:
    await gathered(save_and_commit(len(await rows())))


async def has_changes_of_its_own() -> None:
    await gathered(save(100))
    await save(len(await rows()))


async def is_in_a_block() -> None:
    number = len(await rows())
    async with await current_async_connection():
        await gathered(save(number))


async def has_rolled_back() -> None:
    await gathered(save(100))
    await (await current_async_connection()).rollback()


async def rows() -> Any:
    cursor = (await current_async_connection()).cursor()
    await cursor.execute("SELECT * FROM item")
    return await cursor.fetchall()


@pytest.mark.parametrize("work", [commits_its_own, has_changes_of_its_own, is_in_a_block, has_rolled_back])
def test_other_commits_are_none(make: Make, table: Callable[[], list[int]], work: Callable[..., Any]) -> None:
    async def message() -> None:
        await work()
        await (await current_async_connection()).commit()

    served(make, message)
    assert table() == ([] if work is has_rolled_back else [0, 1])


def test_the_next_message_begins_anew(make: Make, table: Callable[[], list[int]]) -> None:
    forgets = [True, False]

    async def message() -> None:
        if forgets.pop(0):
            await gathered(save(1))
        else:
            await (await current_async_connection()).commit()

    served(make, message)
    assert table() == []
