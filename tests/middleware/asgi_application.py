"""What the real servers run: the harbour log, an endpoint of each kind that a server may cut short, Quart, FastAPI with
sync endpoints, and what is there for trio.

Environment: see `example_apps.asgi_app.app.from_environment`; WORKER_THREADS: how many FastAPI has for sync endpoints.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from example_apps.asgi_app.app import from_environment
from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection, sync_connection
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


async def numbers_by_websocket(websocket: WebSocket) -> None:
    """Each message is a number, and answered with it; 666 takes long."""
    await websocket.accept()
    async for number in websocket.iter_text():
        cursor = (await current_async_connection()).cursor()
        await cursor.execute("SELECT %s, SLEEP(%s)", (number, 3 if number == "666" else 0))
        await websocket.send_text(str((await cursor.fetchone())[0]))


def starlette() -> Any:
    app = from_environment()
    app.router.routes += [
        Route("/one/{number:int}", one),
        Route("/slow", slow),
        Route("/slow_in_a_thread", slow_in_a_thread),
        Route("/stream", stream),
        WebSocketRoute("/websocket", numbers_by_websocket),
    ]
    return app


def pool_arguments() -> dict[str, Any]:
    lines = int(os.environ["DB_POOL"])
    return {
        "host": "127.0.0.1",
        "port": int(os.environ["DB_PORT"]),
        "user": "root",
        "password": os.environ.get("DB_PASSWORD", ""),
        "database": os.environ["DB_NAME"],
        "size": lines,
        "maxsize": lines,
        "timeout": 20,
        "ssl_disabled": True,
    }


def shown(pool: AsyncConnectionPool | ConnectionPool) -> dict[str, int]:
    now = pool.stats()
    names = ("in_use", "waiting", "leaked", "maxsize", "total", "created", "timeouts")
    return {name: getattr(now, name) for name in names}


def quart() -> Any:
    """Quart turns every exception into a 500 itself, and cancels the handler when its client leaves."""
    from quart import Quart, jsonify

    pool = AsyncConnectionPool(**pool_arguments())
    app = Quart(__name__)

    @app.get("/numbers")
    async def numbers() -> Any:
        return jsonify(shown(pool))

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


def fastapi() -> Any:
    """Sync endpoints, which run in WORKER_THREADS threads. One borrows lazily, one is handed its connection, one has it
    from a sync dependency, as is usual. What they return is validated in yet another thread, since it has a type."""
    from anyio.to_thread import current_default_thread_limiter
    from fastapi import Depends, FastAPI

    pool = AsyncConnectionPool(**pool_arguments())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = int(os.environ["WORKER_THREADS"])
        yield

    app = FastAPI(lifespan=lifespan)

    def borrowed() -> Iterator[Connection]:
        yield current_connection()

    handed_over, borrowed_for_it = Depends(sync_connection), Depends(borrowed)

    def work(connection: Connection, number: int) -> int:
        cursor = connection.cursor()
        cursor.execute("SET @dirty = 1")  # so that the return makes a round trip
        cursor.execute("SELECT %s, SLEEP(0.01)", (number,))
        return int(cursor.fetchone()[0])

    @app.get("/numbers")
    async def numbers() -> dict[str, float]:
        return {**shown(pool), "threads": current_default_thread_limiter().total_tokens}

    @app.get("/lazily/{number}")
    def lazily(number: int) -> int:
        return work(current_connection(), number)

    @app.get("/handed/{number}")
    def handed(number: int, connection: Any = handed_over) -> int:
        return work(connection, number)

    @app.get("/usual/{number}")
    def usual(number: int, connection: Any = borrowed_for_it) -> int:
        return work(connection, number)

    app.add_middleware(PoolMiddleware, pool=pool, owns_pool=True)
    return app


def trio() -> Any:
    """Sync endpoints work on trio's event loop as well; the awaited pool does not, and says so."""
    pool = ConnectionPool(**pool_arguments())

    async def numbers(request: Request) -> JSONResponse:
        return JSONResponse(shown(pool))

    def one(request: Request) -> PlainTextResponse:
        cursor = current_connection().cursor()
        cursor.execute("SET @dirty = 1")
        cursor.execute("SELECT %s", (request.path_params["number"],))
        return PlainTextResponse(str(cursor.fetchone()[0]))

    async def awaited(request: Request) -> PlainTextResponse:
        try:
            await current_async_connection()
        except RuntimeError as error:
            return PlainTextResponse(str(error))
        return PlainTextResponse("awaited")

    app = Starlette(routes=[Route("/numbers", numbers), Route("/one/{number:int}", one), Route("/awaited", awaited)])
    app.add_middleware(PoolMiddleware, pool=pool)
    return app
