"""One request, one websocket, as a server drives them; and the endpoints that several files ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pymysqlpool import PoolTimeout
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection

Make = Callable[..., AsyncConnectionPool]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO"):
            thread.join(5)


class Exchange:
    """One request, as a server drives it."""

    def __init__(self, app: Any, path: str = "/", method: str = "GET", **scope: Any) -> None:
        fixed = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b"", "headers": []}
        self.scope: dict[str, Any] = {**fixed, "method": method, "path": path, "root_path": "", **scope}
        self.status, self.body = 0, b""
        self.headers: dict[str, str] = {}
        self.ended = asyncio.Event()
        self.disconnect = asyncio.Event()
        self._asked = False
        self._app = app

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.disconnect.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "started twice"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                self.ended.set()
                self.disconnect.set()  # as servers say when they are asked after the end of a response
        await asyncio.sleep(0)

    async def run(self) -> Exchange:
        await self._app(self.scope, self.receive, self.send)
        return self


async def value(connection: AsyncConnection, statement: str = "SELECT CONNECTION_ID()") -> Any:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return (await cursor.fetchone())[0]


def sync_value(statement: str = "SELECT CONNECTION_ID()") -> Any:
    with current_connection().cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


async def still(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"still"})


def routes(pool: AsyncConnectionPool, *endpoints: Any, inside: Any = (), **options: Any) -> Starlette:
    """A Starlette application with the middleware, and each endpoint under its function's name."""
    return Starlette(
        routes=[Route(f"/{endpoint.__name__}", endpoint, methods=["GET", "POST"]) for endpoint in endpoints],
        middleware=[Middleware(PoolMiddleware, pool=pool, **options), *inside],
    )


class Socket:
    """One websocket, as a server drives it."""

    def __init__(self, app: Any) -> None:
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "websocket", "path": "/", "headers": []}
        self.task = asyncio.create_task(app(scope, self._in.get, self.out.put))

    async def ask(self, text: str) -> str:
        await self._in.put({"type": "websocket.receive", "text": text})
        return str((await self.out.get())["text"])

    async def ask_once(self, text: str) -> None:
        """Ask, and wait for the answer, or for the end of an application that fails: its error is raised."""
        answer = asyncio.create_task(self.ask(text))
        await asyncio.wait({answer, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await self.task

    async def leave(self) -> None:
        await self._in.put({"type": "websocket.disconnect"})
        await self.task


async def answer_two(pool: AsyncConnectionPool, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """One websocket of an application that does `work` for each of two messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await receive()
            await work()
            await send({"type": "websocket.send", "text": "done"})
        await receive()

    one = Socket(PoolMiddleware(app, pool))
    for _ in range(2):
        await one.ask_once("?")
    await one.leave()


class Teapot(Exception):
    pass


async def ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(await value(await current_async_connection(), "SELECT 1")))


def ok_sync(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(sync_value("SELECT 1")))


async def handled(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("SET @dirty = 1")
    raise Teapot


async def unhandled(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("SELECT 1")
    raise ZeroDivisionError


async def caught(request: Request) -> PlainTextResponse:
    with pytest.raises(PoolTimeout):
        await current_async_connection()
    return PlainTextResponse("did without")


async def leaves(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("SELECT 1")
    raise SystemExit


async def post(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")
    return PlainTextResponse("", int(request.headers.get("status", 200)))


def post_sync(request: Request) -> PlainTextResponse:
    current_connection().cursor().execute("INSERT INTO item VALUES (1)")
    return PlainTextResponse("", int(request.headers.get("status", 200)))
