"""What the real servers run: the harbour log, an endpoint of each kind that a server may cut short, and Quart.

Environment: see `example_apps.asgi_app.app.from_environment`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from example_apps.asgi_app.app import from_environment
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection


async def one(request: Request) -> PlainTextResponse:
    """The number that was asked for, from the database: a wrong answer shows."""
    cursor = (await current_async_connection()).cursor()
    await cursor.execute("SELECT %s", (request.path_params["number"],))
    return PlainTextResponse(str((await cursor.fetchone())[0]))


async def slow(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("SELECT 666, SLEEP(3)")
    return PlainTextResponse("slept")


def _sleep() -> None:
    current_connection().cursor().execute("SELECT 666, SLEEP(3)")


async def slow_in_a_thread(request: Request) -> PlainTextResponse:
    await asyncio.to_thread(_sleep)
    return PlainTextResponse("slept")


async def stream(request: Request) -> StreamingResponse:
    """A row at a time, for ever."""

    async def rows() -> AsyncIterator[str]:
        cursor = (await current_async_connection()).cursor()
        number = 0
        while True:
            number += 1
            await cursor.execute("SELECT %s, REPEAT('x', 1000), SLEEP(0.005)", (number,))
            yield f"{await cursor.fetchone()}\n"

    return StreamingResponse(rows())


def starlette() -> Any:
    app = from_environment()
    app.router.routes += [
        Route("/one/{number:int}", one),
        Route("/slow", slow),
        Route("/slow_in_a_thread", slow_in_a_thread),
        Route("/stream", stream),
    ]
    return app


def quart() -> Any:
    """Quart turns every exception into a 500 itself, and cancels the handler when its client leaves."""
    from quart import Quart, jsonify

    lines = int(os.environ["DB_POOL"])
    pool = AsyncConnectionPool(
        host="127.0.0.1",
        port=int(os.environ["DB_PORT"]),
        user="root",
        password=os.environ.get("DB_PASSWORD", ""),
        database=os.environ["DB_NAME"],
        size=lines,
        maxsize=lines,
        timeout=20,
    )
    app = Quart(__name__)

    @app.get("/numbers")
    async def numbers() -> Any:
        now = pool.stats()
        return jsonify(in_use=now.in_use, waiting=now.waiting, leaked=now.leaked, maxsize=now.maxsize, total=now.total)

    @app.get("/one/<int:number>")
    async def one(number: int) -> str:
        cursor = (await current_async_connection()).cursor()
        await cursor.execute("SELECT %s", (number,))
        return str((await cursor.fetchone())[0])

    @app.get("/slow")
    async def slow() -> str:
        await (await current_async_connection()).cursor().execute("SELECT 666, SLEEP(3)")
        return "slept"

    @app.get("/slow_in_a_thread")
    def slow_in_a_thread() -> str:
        _sleep()
        return "slept"

    app.asgi_app = PoolMiddleware(app.asgi_app, pool, owns_pool=True)  # type: ignore[method-assign, assignment]
    return app
