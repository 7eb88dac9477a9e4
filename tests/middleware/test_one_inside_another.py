"""Middlewares for different pools, one inside the other: what runs inside one borrows from that one's pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from pymysqlpool import ConnectionPool, asgi, wsgi
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import current_async_connection
from pymysqlpool.request_scope import current_connection

from .asgi.support import Exchange, Socket, run, sync_value, value

ASKED = "SELECT DATABASE()"


@pytest.fixture
def pools(make_pool: Callable[..., ConnectionPool]) -> Iterator[tuple[ConnectionPool, ConnectionPool]]:
    both = make_pool(size=1, maxsize=1, timeout=2), make_pool(size=1, maxsize=1, timeout=2, database="mysql")
    yield both
    assert [pool.stats().in_use for pool in both] == [0, 0]
    assert [pool.stats().borrowed for pool in both] == [1, 1]


@pytest.mark.parametrize("streamed", [False, True])
def test_under_wsgi(pools: tuple[ConnectionPool, ConnectionPool], streamed: bool) -> None:
    shop, reports = pools
    seen = []

    def mounted(environ: Any, start_response: Any) -> Iterable[bytes]:
        def body() -> Iterator[bytes]:
            yield sync_value(ASKED).encode()

        seen.extend([sync_value(ASKED), current_connection(shop) is current_connection()])
        start_response("200 OK", [])
        return body() if streamed else list(body())

    inner = wsgi.PoolMiddleware(mounted, reports)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(sync_value(ASKED))
        body = inner(environ, start_response)
        seen.append(sync_value(ASKED))
        return body

    body = wsgi.PoolMiddleware(application, shop)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    assert b"".join(body) == b"mysql"
    if hasattr(body, "close"):
        body.close()
    assert seen == ["test", "mysql", False, "test"]


def test_the_transaction_is_the_requests_over_both_pools(
    pools: tuple[ConnectionPool, ConnectionPool], table: Callable[[], list[int]]
) -> None:
    shop, reports = pools

    def mounted(environ: Any, start_response: Any) -> Iterable[bytes]:
        current_connection().execute("INSERT INTO test.item VALUES (2)")
        start_response(environ["status"], [])
        return []

    inner = wsgi.PoolMiddleware(mounted, reports)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        current_connection().execute("INSERT INTO item VALUES (1)")
        return inner(environ, start_response)

    outer = wsgi.PoolMiddleware(application, shop, transaction="request")
    outer({"REQUEST_METHOD": "POST", "PATH_INFO": "/", "status": "200 OK"}, lambda *_: None)
    assert table() == [1, 2]


def awaited(pools: tuple[ConnectionPool, ConnectionPool]) -> list[AsyncConnectionPool]:
    return [AsyncConnectionPool(pool=pool) for pool in pools]


def test_under_asgi(pools: tuple[ConnectionPool, ConnectionPool]) -> None:
    shop, reports = awaited(pools)
    seen = []

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await value(await current_async_connection(), ASKED))
        seen.append(await asyncio.to_thread(sync_value, ASKED))
        seen.append(await value(await current_async_connection(shop), ASKED))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    inner = asgi.PoolMiddleware(mounted, reports)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await value(await current_async_connection(), ASKED))
        await inner(scope, receive, send)
        seen.append(await value(await current_async_connection(), ASKED))

    async def main() -> None:
        assert (await Exchange(asgi.PoolMiddleware(application, shop)).run()).status == 200
        for pool in (shop, reports):
            pool.end_threads()

    run(main)
    assert seen == ["test", "mysql", "mysql", "test", "test"]


def test_on_a_websocket(pools: tuple[ConnectionPool, ConnectionPool]) -> None:
    shop, reports = awaited(pools)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        async def of_a_task() -> str:
            return str(await value(await current_async_connection(), ASKED))

        await receive()
        async with scope["pymysqlpool.scope"].unit():
            seen = [
                await of_a_task(),
                await asyncio.create_task(of_a_task()),
                await asyncio.to_thread(sync_value, ASKED),
            ]
            seen.append(await value(await current_async_connection(shop), ASKED))
        await send({"type": "websocket.send", "text": " ".join(seen)})
        await receive()

    async def main() -> None:
        one = Socket(asgi.PoolMiddleware(asgi.PoolMiddleware(mounted, reports), shop))
        assert await one.ask("?") == "mysql mysql mysql test"
        await one.leave()
        for pool in (shop, reports):
            pool.end_threads()

    run(main)
