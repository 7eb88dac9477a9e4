"""The application: async and sync endpoints, a stream of server-sent events and a websocket, all on one pool.

Owns: what each address answers. Never: borrows or returns a connection; the middleware does, at first use and at the
end, and an open stream or an idle websocket holds none.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pymysqlpool import status
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection

from . import data

PAGE = Template((Path(__file__).parent / "page.html").read_text())
LOOK_EVERY = 0.5  # seconds between two looks of a stream for news
LINE = "<li><b>{ship}</b> {remark}</li>"


def create_app(pool: AsyncConnectionPool) -> Starlette:
    """The application on `pool`, which it closes at its end."""

    async def log(request: Request) -> HTMLResponse:
        entries = await data.latest(await current_async_connection())
        lines = "\n".join(LINE.format(ship=escape(entry["ship"]), remark=escape(entry["remark"])) for entry in entries)
        return HTMLResponse(PAGE.substitute(lines=lines, last=entries[0]["id"] if entries else 0))

    async def write(request: Request) -> PlainTextResponse | RedirectResponse:
        if _comes_from_elsewhere(request):
            return PlainTextResponse("This form is on another site.\n", 403)
        form = {name: values[0].strip() for name, values in parse_qs((await request.body()).decode()).items()}
        if not form.get("ship") or not form.get("remark"):
            return PlainTextResponse("Which ship, and what about it?\n", 400)
        await data.write(await current_async_connection(), form["ship"][:40], form["remark"][:200])
        return RedirectResponse("/", 303)

    def ships(request: Request) -> JSONResponse:
        """A sync endpoint: Starlette runs it in a thread."""
        return JSONResponse(dict(data.per_ship(current_connection())))

    async def weather(request: Request) -> PlainTextResponse:
        """A statement that takes long, and a patience that may be shorter."""
        seconds, patience = (float(request.query_params.get(name, 1)) for name in ("seconds", "patience"))
        cursor = (await current_async_connection()).cursor()
        try:
            async with asyncio.timeout(patience):
                await cursor.execute("SELECT SLEEP(%s)", (seconds,))
        except TimeoutError:
            return PlainTextResponse("The weather station does not answer.\n", 504)
        return PlainTextResponse("Wind south-west 5, rain.\n")

    async def news(request: Request) -> StreamingResponse:
        return StreamingResponse(_events(int(request.query_params.get("after", 0))), media_type="text/event-stream")

    async def radio(websocket: WebSocket) -> None:
        """Each message is a ship's name, and is answered with its last entry."""
        if _comes_from_elsewhere(websocket):
            await websocket.close()
            return
        await websocket.accept()
        try:
            while True:
                ship = (await websocket.receive_text()).strip()
                await websocket.send_text(await data.last_of(await current_async_connection(), ship))
        except WebSocketDisconnect:
            pass

    async def numbers(request: Request) -> JSONResponse:
        now = pool.stats()
        names = (
            "maxsize",
            "in_use",
            "idle",
            "waiting",
            "connecting",
            "closing",
            "total",
            "created",
            "borrowed",
            "waits",
        )
        shown: dict[str, Any] = {name: getattr(now, name) for name in names}
        return JSONResponse({**shown, "leaked": now.leaked, "discarded": dict(now.discarded)})

    return Starlette(
        routes=[
            Route("/", log),
            Route("/entries", write, methods=["POST"]),
            Route("/ships", ships),
            Route("/weather", weather),
            Route("/news", news),
            Route("/numbers", numbers),
            Mount("/pools", status.asgi_app()),  # a real application asks for a login before it
            WebSocketRoute("/radio", radio),
        ],
        middleware=[
            Middleware(
                PoolMiddleware,
                pool=pool,
                owns_pool=True,
                transaction="request",
                release_on_response_start=True,
                server_timing=True,
            )
        ],
    )


def _comes_from_elsewhere(connection: HTTPConnection) -> bool:
    """A page of another site must not write or listen here in a visitor's name. With accounts, add a token per form."""
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


async def _events(last: int) -> AsyncIterator[str]:
    """What is written from now on, as server-sent events. Between two looks it holds no connection."""
    yield ": listening\n\n"
    while True:
        for entry in reversed(await data.latest(await current_async_connection(), after=last)):
            last = entry["id"]
            yield f"id: {last}\ndata: {json.dumps(entry)}\n\n"
        yield ":\n\n"
        await asyncio.sleep(LOOK_EVERY)


def from_environment() -> Starlette:
    """For a server's command line. Environment: DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME, DB_POOL."""
    lines = int(os.environ.get("DB_POOL", "8"))
    pool = AsyncConnectionPool(
        host=os.environ.get("DB_HOST", "127.0.0.1"),
        port=int(os.environ.get("DB_PORT", "3306")),
        user=os.environ.get("DB_USER", "root"),
        password=os.environ.get("DB_PASSWORD", ""),
        database=os.environ.get("DB_NAME", "test"),
        size=lines,
        maxsize=lines,
        timeout=float(os.environ.get("DB_TIMEOUT", "5")),
        read_timeout=30,  # seconds; above the slowest statement
        kill_on_cancel=True,
    )
    return create_app(pool)
