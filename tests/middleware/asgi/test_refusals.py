"""No connection in time is 503 with Retry-After (behaviours 44 to 47)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from pymysql import err
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pymysqlpool import PoolTimeout
from pymysqlpool.asgi import DEADLINE, PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection

from .support import (
    Exchange,
    Make,
    caught,
    ok,
    ok_sync,
    routes,
    run,
    sync_value,
    unhandled,
    value,
)


def test_no_connection_in_time_is_a_503_with_retry_after(make: Make) -> None:
    """44, 45, 46"""
    exhausted, down = (
        make(size=1, maxsize=1, pre_create_num=1, timeout=0.05),
        make(host="127.0.0.1", port=1, timeout=0.3),
    )
    crowded = make(size=1, maxsize=1, timeout=30, max_waiting=0)

    async def main() -> None:
        async with exhausted.get_connection(timeout=10):
            for path, endpoint in (("/ok", ok), ("/ok_sync", ok_sync)):
                done = await Exchange(routes(exhausted, endpoint, retry_after=7), path).run()
                assert (done.status, done.headers["retry-after"]) == (503, "7")
        async with crowded.get_connection():
            assert (await asyncio.wait_for(Exchange(routes(crowded, ok), "/ok").run(), 5)).status == 503
        assert (await Exchange(routes(down, ok), "/ok").run()).status == 503
        assert (await Exchange(routes(exhausted, ok), "/ok").run()).status == 200

    run(main)
    assert (down.stats().timeouts, exhausted.stats().timeouts, crowded.stats().rejected) == (0, 2, 1)


def test_refused_requests_make_one_line_a_second_and_the_metric_counts_all(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """45"""
    now = [1000.0]
    monkeypatch.setattr("pymysqlpool.refusals.monotonic", lambda: now[0])
    pool = make(size=1, maxsize=1, timeout=5, max_waiting=0)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if "answered 503" in record.getMessage()]

    async def main() -> None:
        app = routes(pool, ok)
        async with pool.get_connection():
            for _ in range(10):
                assert (await Exchange(app, "/ok").run()).status == 503
            assert len(lines()) == 1
            now[0] += 1
            await Exchange(app, "/ok").run()

    run(main)
    assert "and so were 9 others in the 1.0 s" in lines()[1]
    assert pool.stats().rejected == 11


def test_tasks_of_a_group_that_find_no_connection_are_a_503(make: Make) -> None:
    pool = make(size=1, maxsize=1, timeout=0.5)

    async def in_a_group(request: Request) -> PlainTextResponse:
        async def ask() -> None:
            async with pool.get_connection():
                raise AssertionError

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            group.create_task(ask())
        raise AssertionError

    async def main() -> None:
        async with pool.get_connection():
            done = await Exchange(routes(pool, in_a_group), "/in_a_group").run()
        assert (done.status, done.headers["retry-after"]) == (503, "1")

    run(main)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_500_after_a_second_borrow_that_was_good_stays_a_500(make: Make, kind: str) -> None:
    """44: the first one, which failed, was not what ended the request."""
    pool = make(size=1, maxsize=1, timeout=0.5)

    async def fails(request: Request) -> PlainTextResponse:
        async with pool.get_connection():
            with pytest.raises(PoolTimeout):
                await current_async_connection()
        await value(await current_async_connection())
        return PlainTextResponse("for another reason", 500)

    def fails_sync(request: Request) -> PlainTextResponse:
        with pool.pool.get_connection(), pytest.raises(PoolTimeout):
            current_connection()
        sync_value()
        return PlainTextResponse("for another reason", 500)

    async def main() -> None:
        endpoint = fails if kind == "async" else fails_sync
        done = await Exchange(routes(pool, endpoint), f"/{endpoint.__name__}").run()
        assert (done.status, done.body) == (500, b"for another reason")

    run(main)


def test_a_login_that_is_refused_is_a_500(make: Make) -> None:
    """46: trying again later would not help."""
    pool = make(user="nobody", password="wrong")

    async def main() -> None:
        exchange = Exchange(routes(pool, ok), "/ok")
        with pytest.raises(err.OperationalError, match="denied"):
            await exchange.run()
        assert exchange.status == 500

    run(main)


def test_a_500_that_a_framework_has_made_of_it_is_a_503(make: Make) -> None:
    """44: with the middleware around the whole of Starlette, and around Quart; HEAD has no body."""
    quart = pytest.importorskip("quart")
    pool = make(size=1, maxsize=1, pre_create_num=1, timeout=0.05)
    inner = Starlette(routes=[Route("/ok", ok), Route("/caught", caught), Route("/unhandled", unhandled)])
    other = quart.Quart(__name__)

    @other.get("/ok")  # type: ignore[untyped-decorator,unused-ignore]
    async def of_quart() -> str:
        return str(await value(await current_async_connection(), "SELECT 1"))

    async def main() -> None:
        for app in (inner, other):
            app = PoolMiddleware(app, pool, retry_after=3)
            async with pool.get_connection(timeout=10):
                done = await Exchange(app, "/ok").run()
                assert (done.status, done.headers["retry-after"], done.body[:12]) == (503, "3", b"The database")
                done = await Exchange(app, "/ok", "HEAD").run()
                assert (done.status, done.body) == (503, b"")
            assert (await Exchange(app, "/ok").run()).body == b"1"
        app = PoolMiddleware(inner, pool)
        async with pool.get_connection(timeout=10):
            assert (await Exchange(app, "/caught").run()).status == 200
        exchange = Exchange(app, "/unhandled")
        with pytest.raises(ZeroDivisionError):
            await exchange.run()
        assert exchange.status == 500

    run(main)


def test_a_requests_deadline_bounds_all_its_waits(make: Make) -> None:
    """47: whatever is shorter, the pool's timeout or what is left of it; what is at hand is lent even then."""
    patient, other, free = (make(size=1, maxsize=1, timeout=30) for _ in range(3))
    waited: list[float] = []

    async def thrice(request: Request) -> PlainTextResponse:
        began = monotonic()
        assert await value(await current_async_connection(free), "SELECT 1") == 1
        for pool in (patient, other):
            with pytest.raises(PoolTimeout):
                await current_async_connection(pool)
        waited.append(monotonic() - began)
        assert await value(await current_async_connection(free), "SELECT 1") == 1
        return PlainTextResponse("")

    def in_threads(request: Request) -> PlainTextResponse:
        began = monotonic()
        for pool in (patient, other):
            with pytest.raises(PoolTimeout):
                current_connection(pool.pool)
        waited.append(monotonic() - began)
        return PlainTextResponse("")

    async def main() -> None:
        async with patient.get_connection(), other.get_connection():
            for path in ("/thrice", "/in_threads"):
                await Exchange(routes(free, thrice, in_threads, deadline=0.2), path).run()
                own: Any = {DEADLINE: monotonic() + 0.2}
                await Exchange(routes(free, thrice, in_threads, deadline=60), path, **own).run()

    run(main)
    assert len(waited) == 4
    assert all(0.1 < seconds < 5 for seconds in waited)


def test_the_pools_timeout_holds_within_a_longer_deadline(make: Make) -> None:
    """47"""
    pool = make(size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    async def main() -> None:
        async with pool.get_connection(timeout=10):
            done = await asyncio.wait_for(Exchange(routes(pool, ok, deadline=60), "/ok").run(), 10)
            assert done.status == 503

    run(main)


def test_a_handler_of_the_applications_own_wins(make: Make) -> None:
    """44"""
    pool = make(size=1, maxsize=1, pre_create_num=1, timeout=0.05)
    app = routes(pool, ok)
    app.add_exception_handler(PoolTimeout, lambda request, error: PlainTextResponse("a crowd", 429))

    async def main() -> None:
        async with pool.get_connection(timeout=10):
            assert (await Exchange(app, "/ok").run()).status == 429

    run(main)


def test_after_the_head_the_error_goes_to_the_server(make: Make) -> None:
    """44"""
    pool = make(size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    async def stream(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "begun"
            await current_async_connection()

        return StreamingResponse(body())

    async def main() -> None:
        async with pool.get_connection(timeout=10):
            exchange = Exchange(routes(pool, stream), "/stream")
            with pytest.raises(PoolTimeout):
                await exchange.run()
            assert (exchange.status, exchange.body) == (200, b"begun")

    run(main)


@pytest.mark.parametrize("framework", [False, True], ids=["raised", "made a 500"])
def test_a_connection_that_is_lost_in_a_request_is_a_503(make: Make, admin: Any, framework: bool) -> None:
    pool = make()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        connection = await current_async_connection()
        admin.kill(await value(connection))
        try:
            await value(connection, "SELECT SLEEP(10)")
        except err.MySQLError:
            if not framework:
                raise
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"a page"})

    async def main() -> None:
        done = await Exchange(PoolMiddleware(application, pool)).run()
        assert (done.status, done.headers["retry-after"]) == (503, "1")
        assert b"try again soon" in done.body

    run(main)
    assert pool.stats().in_use == 0


def test_a_commit_whose_outcome_is_unknown_is_no_503(make: Make, admin: Any) -> None:
    pool = make()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        admin.kill(await value(await current_async_connection()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a page"})

    async def main() -> None:
        exchange = Exchange(PoolMiddleware(application, pool, transaction="request"))
        with pytest.raises(err.MySQLError):
            await exchange.run()
        assert exchange.status == 0

    run(main)
    assert pool.stats().in_use == 0
