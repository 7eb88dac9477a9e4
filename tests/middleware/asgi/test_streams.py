"""Responses that are made while they are sent (behaviours 20 to 22)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

from pymysql.cursors import SSCursor
from starlette.requests import Request
from starlette.responses import StreamingResponse

from pymysqlpool import ReturnConnectionToPoolError
from pymysqlpool.asgi import current_async_connection
from pymysqlpool.request_scope import current_connection
from tests.aio.support import all_home

from .support import (
    Exchange,
    Make,
    ok,
    routes,
    run,
    sync_value,
    value,
)


def test_a_client_that_leaves_a_stream_frees_its_connection_at_once(make: Make) -> None:
    """20: the half-read result is discarded, not drained."""
    pool = make()

    async def export(request: Request) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with (await current_async_connection()).cursor(SSCursor) as cursor:
                await cursor.execute("SELECT seq, REPEAT('x', 200) FROM seq_1_to_5000000")
                async for number, _ in cursor:
                    yield f"{number}\n"

        return StreamingResponse(rows())

    async def main() -> None:
        exchange = Exchange(routes(pool, export), "/export")
        task = asyncio.create_task(exchange.run())
        while len(exchange.body) < 50:
            await asyncio.sleep(0.001)
        exchange.disconnect.set()
        await asyncio.wait_for(task, 2)
        await all_home(pool)
        assert sum(pool.stats().discarded.values()) == 1

    run(main)


def test_a_sync_generator_that_is_finalised_late_has_no_connection_any_more(make: Make) -> None:
    """21, 35: every next() may come from another thread."""
    pool = make()
    late: list[Any] = []

    def rows() -> Generator[str, None, None]:
        connection = current_connection()
        try:
            for number in range(1000):
                yield f"{sync_value(f'SELECT {number}')}\n"
        finally:
            try:
                connection.cursor().execute("SELECT 1")
            except ReturnConnectionToPoolError as error:
                late.append(error)

    body = rows()

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(body)

    async def main() -> None:
        exchange = Exchange(routes(pool, stream), "/stream")
        task = asyncio.create_task(exchange.run())
        while len(exchange.body) < 20:
            await asyncio.sleep(0.001)
        exchange.disconnect.set()
        await asyncio.wait_for(task, 2)
        assert pool.stats().in_use == 0

    run(main)
    body.close()
    assert len(late) == 1


def test_open_streams_hold_no_connection_when_told_to_release_it(make: Make) -> None:
    """22: a pool of 2, 25 streams that ask now and then, and other requests in between."""
    pool = make()

    async def events(request: Request) -> StreamingResponse:
        await value(await current_async_connection())

        async def ticks() -> AsyncIterator[str]:
            for _ in range(3):
                yield f"{await value(await current_async_connection(), 'SELECT 7')}\n"
            await asyncio.Event().wait()

        return StreamingResponse(ticks())

    async def main() -> None:
        app = routes(pool, events, ok, release_on_response_start=True)
        streams = [Exchange(app, "/events") for _ in range(25)]
        tasks = [asyncio.create_task(stream.run()) for stream in streams]
        while any(stream.body != b"7\n7\n7\n" for stream in streams):
            await asyncio.sleep(0.001)
        assert pool.stats().in_use == 0
        assert [(await Exchange(app, "/ok").run()).body for _ in range(10)] == [b"1"] * 10
        for stream in streams:
            stream.disconnect.set()
        await asyncio.gather(*tasks)

    run(main)
    assert pool.stats().created <= 2
