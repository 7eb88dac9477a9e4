"""`transaction="request"`: what is committed, and when (behaviours 24, 25, 28)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymysql import err
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from tests.aio.support import all_home, until
from tests.proxy import Proxy

from .support import (
    Exchange,
    Make,
    post,
    post_sync,
    routes,
    run,
    value,
)


@pytest.mark.parametrize("endpoint", [post, post_sync], ids=lambda endpoint: endpoint.__name__)
def test_the_transaction_of_a_request_is_committed_before_the_head_goes_out(
    make: Make, table: Callable[[], list[int]], endpoint: Any
) -> None:
    """24"""
    pool = make()
    seen: list[list[int]] = []

    class Watched(Exchange):
        async def send(self, message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen.append(await asyncio.to_thread(table))
            await super().send(message)

    async def main() -> None:
        app = routes(pool, endpoint, transaction="request")
        path = f"/{endpoint.__name__}"
        assert (await Watched(app, path, headers=[(b"status", b"404")]).run()).status == 404
        assert (await Watched(app, path).run()).status == 200

    run(main)
    assert seen == [[], [1]]
    assert table() == [1]


def test_a_commit_that_fails_is_a_500(make: Make, table: Callable[[], list[int]], admin: Any) -> None:
    pool = make()

    async def killed(request: Request) -> PlainTextResponse:
        connection = await current_async_connection()
        await connection.cursor().execute("INSERT INTO item VALUES (1)")
        session = await value(connection)
        await asyncio.to_thread(admin.kill, session)
        return PlainTextResponse("saved")

    async def main() -> None:
        exchange = Exchange(routes(pool, killed, transaction="request"), "/killed")
        with pytest.raises(err.OperationalError):
            await exchange.run()
        assert (exchange.status, exchange.body) == (500, b"Internal Server Error")

    run(main)
    assert table() == []


def test_what_a_stream_writes_after_the_head_is_not_committed_for_it(
    make: Make, table: Callable[[], list[int]]
) -> None:
    """28"""
    pool = make()

    async def stream(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "begun\n"
            await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (2)")
            yield "ended\n"

        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")
        return StreamingResponse(body())

    async def main() -> None:
        assert (await Exchange(routes(pool, stream, transaction="request"), "/stream").run()).body == b"begun\nended\n"

    run(main)
    assert table() == [1]


def test_a_safe_method_has_no_transaction_when_told_so(make: Make, table: Callable[[], list[int]]) -> None:
    """25"""
    pool = make()

    async def main() -> None:
        app = routes(pool, post, transaction="request", transaction_on_get=False)
        assert (await Exchange(app, "/post", "GET").run()).status == 200
        assert await asyncio.to_thread(table) == []
        assert (await Exchange(app, "/post", "POST").run()).status == 200

    run(main)
    assert table() == [1]


def test_a_veto_decides_instead_of_the_status(make: Make, table: Callable[[], list[int]]) -> None:
    pool = make()

    def veto(status: int, headers: Any, error: BaseException | None) -> bool:
        return ("content-type", "text/plain; charset=utf-8") in headers

    async def main() -> None:
        app = routes(pool, post, transaction="request", commit_veto=veto)
        assert (await Exchange(app, "/post").run()).status == 200

    run(main)
    assert table() == []


@pytest.mark.parametrize("end", [200, 400])
def test_a_request_cancelled_while_it_commits_or_rolls_back_does_so_to_the_end(
    make: Make, table: Callable[[], list[int]], proxy: Proxy, end: int
) -> None:
    pool = make(host="127.0.0.1", port=proxy.port)
    written = asyncio.Event()

    async def write(request: Request) -> PlainTextResponse:
        await post(request)
        proxy.stalled = True
        written.set()
        return PlainTextResponse("", end)

    async def main() -> None:
        task = asyncio.create_task(Exchange(routes(pool, write, transaction="request"), "/write").run())
        await written.wait()
        await until(lambda: any(slot.wire.exchange.locked() for slot in pool.pool._ledger.slots()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.stats().in_use == 1, "the server has not answered"
        proxy.stalled = False
        await all_home(pool)

    run(main)
    assert table() == ([1] if end == 200 else [])
    assert dict(pool.stats().discarded) == {}


def test_the_end_of_a_requests_transaction_takes_no_thread(
    make: Make, table: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make()
    taken: list[object] = []

    async def main() -> None:
        app = routes(pool, post, transaction="request")
        assert (await Exchange(app, "/post", headers=[(b"status", b"404")]).run()).status == 404  # connects
        pool.pool._tend_at = float("inf")
        monkeypatch.setattr(pool._workers, "_start_locked", lambda: taken.append("a thread"))
        assert (await Exchange(app, "/post", headers=[(b"status", b"404")]).run()).status == 404
        assert (await Exchange(app, "/post").run()).status == 200
        monkeypatch.undo()

    run(main)
    assert table() == [1]
    assert taken == []


@pytest.mark.parametrize("status", [200, 400])
def test_a_block_of_the_connection_neither_commits_nor_gives_back_the_requests_transaction(
    make: Make, table: Callable[[], list[int]], status: int
) -> None:
    pool = make()

    async def nested(request: Request) -> PlainTextResponse:
        async with await current_async_connection() as connection:
            await connection.cursor().execute("INSERT INTO item VALUES (1)")
        assert await asyncio.to_thread(table) == []
        async with await current_async_connection() as again:
            assert again is connection
            await again.cursor().execute("INSERT INTO item VALUES (2)")
        return PlainTextResponse("", status)

    async def main() -> None:
        assert (await Exchange(routes(pool, nested, transaction="request"), "/nested").run()).status == status

    run(main)
    assert table() == ([1, 2] if status == 200 else [])
    assert pool.stats().borrowed == 1


@pytest.mark.parametrize("between", [False, True], ids=["at once", "after a layer between that borrows"])
@pytest.mark.parametrize(("outer", "inner"), [("request", None), (None, "request"), ("request", "request")])
def test_installed_twice_the_transaction_of_either_is_the_requests(
    make: Make, table: Callable[[], list[int]], between: bool, outer: Any, inner: Any
) -> None:
    pool = make()

    async def main() -> None:
        mounted = routes(pool, post, transaction=inner)

        async def layer(scope: Any, receive: Any, send: Any) -> None:
            if between:
                await value(await current_async_connection())
            await mounted(scope, receive, send)

        app = PoolMiddleware(layer, pool, transaction=outer)
        assert (await Exchange(app, "/post", headers=[(b"status", b"404")]).run()).status == 404
        assert (await Exchange(app, "/post").run()).status == 200

    run(main)
    assert table() == [1]
