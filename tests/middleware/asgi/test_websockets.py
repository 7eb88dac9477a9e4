"""When a websocket holds a connection (behaviour 38)."""

from __future__ import annotations

import asyncio
from typing import Any

from pymysqlpool.asgi import SCOPE, PoolMiddleware, current_async_connection
from tests.aio.support import all_home

from .support import (
    Make,
    Socket,
    run,
    value,
)


def test_idle_websockets_hold_nothing(make: Make) -> None:
    """38: a hundred of them on a pool of two; what a message has not committed is not there for the next."""
    pool = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            connection = await current_async_connection()
            await connection.cursor().execute("SET @last = COALESCE(@last, 0) + 1")
            answer = await value(connection, f"SELECT CONCAT(@last, ' {message['text']}')")
            await send({"type": "websocket.send", "text": answer})

    async def main() -> None:
        sockets = [Socket(PoolMiddleware(app, pool)) for _ in range(100)]
        for round_ in range(2):
            answers = await asyncio.gather(*(one.ask(f"{n}") for n, one in enumerate(sockets)))
            assert answers == [f"1 {number}" for number in range(100)], round_
            await all_home(pool)
        assert pool.stats().total <= 2
        for one in sockets:
            await one.leave()
        assert pool.stats().borrowed == 200

    run(main)


def test_a_unit_keeps_the_lease_while_another_task_waits_for_the_next_message(make: Make) -> None:
    """38"""
    pool = make()
    kept: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def work(asked: asyncio.Event) -> None:
            async with scope[SCOPE].unit():
                before = await value(await current_async_connection(), "SELECT CONNECTION_ID()")
                connection = await current_async_connection()
                await asked.wait()
                kept.append(await value(connection) == before)

        asked = asyncio.Event()
        task = asyncio.create_task(work(asked))
        while pool.stats().in_use == 0:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.02, asked.set)
        await receive()
        await task
        assert pool.stats().in_use == 0, "the end of the unit gives it back"

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        while not kept:
            await asyncio.sleep(0.001)
        await one.leave()

    run(main)
    assert kept == [True]
