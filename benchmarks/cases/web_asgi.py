"""An ASGI request end to end, in one process: a Starlette page that runs one query, one at a time and in a crowd.

No network between browser and application, so that what is compared is the application's work. `no database` is the
same page without its query. `connect per request` is PyMySQL in a sync endpoint, as Starlette runs it in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any

from ..bench import Bench
from ..measure import OURS, Segment, Table, Took, compare, interleave
from ..peers import AioMySQL, AsyncMy, AsyncPeer, ConnectPerQuery, NotInstalled, load, query
from .web_flask import NO_DATABASE, PER_REQUEST

AWAITED = OURS  # async endpoint
IN_A_THREAD = f"{OURS}, sync endpoint"
SIZE, CROWD = 8, 50
_SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "headers": [],
}

App = Callable[..., Awaitable[None]]


async def request(app: App) -> None:
    """One GET of the front page, as a server drives it."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(dict(_SCOPE), receive, send)
    assert status == 200, status


def requests(loop: asyncio.AbstractEventLoop, app: App, at_once: int) -> Segment:
    """Makes so many requests, `at_once` of them at a time. The CPU is that of all threads."""

    async def many(operations: int) -> None:
        left = iter(range(operations))

        async def client() -> None:
            for _ in left:
                await request(app)

        await asyncio.gather(*(client() for _ in range(min(at_once, operations))))

    def segment(operations: int) -> Took:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        loop.run_until_complete(many(operations))
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        return Took(wall / operations, cpu / operations)

    return segment


def page(endpoint: Callable[[Any], Any], *middleware: Any) -> App:
    applications, routing = load("starlette.applications", "starlette"), load("starlette.routing", "starlette")
    return applications.Starlette(  # type: ignore[no-any-return]
        routes=[routing.Route("/", endpoint)], middleware=list(middleware)
    )


def apps(connect: dict[str, Any], loop: asyncio.AbstractEventLoop, stack: ExitStack) -> tuple[dict[str, App], Any]:
    """The page on each of them, and why others are not there."""
    from pymysqlpool.aio import AsyncConnectionPool
    from pymysqlpool.asgi import PoolMiddleware, current_async_connection
    from pymysqlpool.request_scope import current_connection

    Middleware = load("starlette.middleware", "starlette").Middleware
    Text = load("starlette.responses", "starlette").PlainTextResponse
    pool = AsyncConnectionPool(size=SIZE, maxsize=SIZE, timeout=30, **connect)
    stack.callback(lambda: loop.run_until_complete(pool.close()))
    each_time = ConnectPerQuery(connect, 1)

    async def without(request: Any) -> Any:
        return Text("((1,),)")

    async def awaited(request: Any) -> Any:
        async with (await current_async_connection()).cursor() as cursor:
            await cursor.execute("SELECT 1")
            return Text(str(await cursor.fetchall()))

    def in_a_thread(request: Any) -> Any:
        return Text(str(query(current_connection())))

    def per_request(request: Any) -> Any:
        connection = each_time.borrow()
        rows = query(connection)
        each_time.give_back(connection)
        return Text(str(rows))

    found = {
        NO_DATABASE: page(without),
        AWAITED: page(awaited, Middleware(PoolMiddleware, pool=pool)),
        IN_A_THREAD: page(in_a_thread, Middleware(PoolMiddleware, pool=pool)),
        PER_REQUEST: page(per_request),
    }
    missing: dict[str, str] = {}
    for kind in (AioMySQL, AsyncMy):
        peer = kind()
        try:
            loop.run_until_complete(peer.open(connect, SIZE))
        except NotInstalled as error:
            missing[kind.name] = str(error)
            continue
        stack.callback(_close, loop, peer)
        found[kind.name] = page(_through(peer, Text))
    return found, missing


def _close(loop: asyncio.AbstractEventLoop, peer: AsyncPeer) -> None:
    loop.run_until_complete(peer.close())


def _through(peer: AsyncPeer, text: Any) -> Callable[[Any], Any]:
    async def endpoint(request: Any) -> Any:
        connection = await peer.borrow()
        try:
            return text(str(await peer.query(connection)))
        finally:
            await peer.give_back(connection)

    return endpoint


def run(bench: Bench) -> list[Table]:
    loop = asyncio.new_event_loop()
    tables = []
    with ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(lambda: loop.run_until_complete(loop.shutdown_default_executor()))
        try:
            found, missing = apps(bench.tcp, loop, stack)
        except NotInstalled as error:
            return [Table("web_asgi", f"ASGI: {error}", [""])]
        for key, title, at_once in (
            ("web_asgi", "An ASGI request with one query", 1),
            ("web_asgi_crowd", f"{CROWD} ASGI requests at a time on {SIZE} connections", CROWD),
        ):
            segments: dict[str, Segment] = {name: requests(loop, app, at_once) for name, app in found.items()}
            taken = interleave(segments, bench.pick(60, 10), seconds=0.01 if at_once == 1 else 0.05)
            tables.append(compare(key, title, taken, missing, ours=AWAITED, bare=NO_DATABASE))
    return tables
