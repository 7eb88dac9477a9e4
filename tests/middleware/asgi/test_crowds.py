"""Cancelled requests, crowds, statements at once, work that outlives its request (behaviours 30, 32, 34, 36, 37)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

import anyio.to_thread
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pymysqlpool.asgi import PoolMiddleware, current_async_connection, sync_connection
from pymysqlpool.request_scope import NoRequestScopeError, current_connection
from tests.aio.support import all_home

from .support import (
    Exchange,
    Make,
    routes,
    run,
    still,
    sync_value,
    value,
)


@pytest.mark.parametrize("kind", ["async", "sync by anyio", "sync by to_thread"])
def test_a_cancelled_requests_connection_is_not_lent_while_its_thread_uses_it(make: Make, kind: str) -> None:
    """30: a server that cancels the task, whatever the endpoint runs its statement with."""
    pool = make(size=1, maxsize=1)
    running = threading.Event()

    def in_a_thread() -> Any:
        connection = current_connection()
        running.set()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 666, SLEEP(20)")

    async def slow(request: Request) -> PlainTextResponse:
        if kind == "async":
            connection = await current_async_connection()
            running.set()
            await value(connection, "SELECT 666, SLEEP(20)")
        elif kind == "sync by anyio":
            await anyio.to_thread.run_sync(in_a_thread, abandon_on_cancel=True)
        else:
            await asyncio.to_thread(in_a_thread)
        return PlainTextResponse("never")

    async def number(request: Request) -> PlainTextResponse:
        wanted = request.headers["number"]
        return PlainTextResponse(str(await value(await current_async_connection(), f"SELECT {wanted}")))

    async def main() -> None:
        app = routes(pool, slow, number)
        task = asyncio.create_task(Exchange(app, "/slow").run())
        await asyncio.to_thread(running.wait, 10)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for wanted in range(50):
            done = await Exchange(app, "/number", headers=[(b"number", str(wanted).encode())]).run()
            assert done.body == str(wanted).encode()
        assert (pool.stats().created, sum(pool.stats().discarded.values())) == (2, 1)

    run(main)


@pytest.mark.parametrize("threads", [4, 40])
def test_sixty_requests_on_a_pool_of_two_get_sixty_good_answers(make: Make, threads: int) -> None:
    """32: giving back needs no thread of those that all wait for a connection."""
    pool = make(timeout=20)

    def sync(request: Request) -> PlainTextResponse:
        cursor = current_connection().cursor()
        cursor.execute("SET @dirty = 1")  # so that the return makes a round trip
        cursor.execute("SELECT 1, SLEEP(0.01)")
        return PlainTextResponse(str(cursor.fetchone()[0]))

    async def main() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        app = routes(pool, sync)
        done = await asyncio.gather(*(Exchange(app, "/sync").run() for _ in range(60)))
        assert [(one.status, one.body) for one in done] == [(200, b"1")] * 60
        await all_home(pool)

    run(main)
    assert (pool.stats().timeouts, pool.stats().created) == (0, 2)


@pytest.mark.parametrize("threads", [4, 40])
def test_fastapi_hands_sync_endpoints_their_connection_without_a_deadlock(make: Make, threads: int) -> None:
    """32: a sync dependency that borrows, the usual pattern, fails most of them (fact 7)."""
    fastapi = pytest.importorskip("fastapi")
    pool = make(timeout=20)
    app = fastapi.FastAPI()

    lent = fastapi.Depends(sync_connection)

    def sync(connection: Any = lent) -> int:
        cursor = connection.cursor()
        cursor.execute("SET @dirty = 1")
        cursor.execute("SELECT 1, SLEEP(0.01)")
        return int(cursor.fetchone()[0])

    app.add_api_route("/sync", sync)
    app.add_middleware(PoolMiddleware, pool=pool)

    async def main() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        done = await asyncio.gather(*(Exchange(app, "/sync").run() for _ in range(60)))
        assert [(one.status, one.body) for one in done] == [(200, b"1")] * 60
        await all_home(pool)

    run(main)
    assert (pool.stats().timeouts, pool.stats().created) == (0, 2)


def test_statements_of_one_request_never_interleave(make: Make) -> None:
    """34"""
    pool = make()

    async def many(request: Request) -> PlainTextResponse:
        async def one(number: int) -> bool:
            return bool(await value(await current_async_connection(), f"SELECT {number}") == number)

        return PlainTextResponse(str(all(await asyncio.gather(*(one(number) for number in range(60))))))

    async def main() -> None:
        assert (await Exchange(routes(pool, many), "/many").run()).body == b"True"
        assert pool.stats().borrowed == 1

    run(main)


def test_nothing_is_released_before_the_head_of_the_response(make: Make, table: Callable[[], list[int]]) -> None:
    """A server's extensions are messages too: the transaction of the request is not over."""
    pool = make()

    async def hints(scope: Any, receive: Any, send: Any) -> None:
        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")
        await send({"type": "http.response.early_hint", "links": []})
        await still(scope, receive, send)

    async def main() -> None:
        app = PoolMiddleware(hints, pool, transaction="request", release_on_response_start=True)
        assert (await Exchange(app).run()).body == b"still"

    run(main)
    assert table() == [1]


def test_a_background_task_still_has_its_scope(make: Make) -> None:
    """36: also when the connection went back with the response: then it gets one of its own."""
    seen: list[int] = []

    async def later() -> None:
        seen.append(await value(await current_async_connection(), "SELECT 36"))

    async def answers(request: Request) -> PlainTextResponse:
        await value(await current_async_connection())
        return PlainTextResponse("answered", background=BackgroundTask(later))

    async def main() -> None:
        for pool, release in ((make(), False), (make(), True)):
            app = routes(pool, answers, release_on_response_start=release)
            await Exchange(app, "/answers").run()
            assert pool.stats().borrowed == 1 + release

    run(main)
    assert seen == [36, 36]


def test_a_thread_of_its_own_has_no_request_and_is_told_what_to_do(make: Make) -> None:
    """37: nor has a task; it shares nothing with the request that started it."""
    pool = make()
    refusals: list[str] = []

    def work() -> None:
        try:
            current_connection()
        except NoRequestScopeError as error:
            refusals.append(str(error))
        with pool.pool.scope():
            refusals.append(sync_value("SELECT 'a scope of its own'"))

    async def asks() -> None:
        with pytest.raises(NoRequestScopeError, match=r"no ASGI request here: .*pool\.get_connection"):
            await current_async_connection()

    async def starts(request: Request) -> PlainTextResponse:
        await value(await current_async_connection())
        thread = threading.Thread(target=Context().run, args=(work,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        await asyncio.create_task(asks(), context=Context())
        return PlainTextResponse("started")

    async def main() -> None:
        assert (await Exchange(routes(pool, starts), "/starts").run()).status == 200

    run(main)
    refusal, answer = refusals
    assert "no request here" in refusal
    assert "`with pool.scope():`" in refusal
    assert answer == "a scope of its own"
    assert pool.stats().borrowed == 2
