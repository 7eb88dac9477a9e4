"""Which connection a request has, and what shares it (behaviours 1 to 4, 11, 13 to 15, 33)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pymysqlpool import PoolTimeout, ReturnConnectionToPoolError
from pymysqlpool.asgi import SCOPE, PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import NoRequestScopeError, current_connection
from tests.aio.support import all_home

from .support import (
    Exchange,
    Make,
    Teapot,
    handled,
    leaves,
    ok,
    ok_sync,
    routes,
    run,
    still,
    sync_value,
    unhandled,
    value,
)


def test_a_request_that_never_asks_borrows_nothing(make: Make) -> None:
    """1: also with the database down; 404s too."""
    pool = make(host="127.0.0.1", port=1)

    async def main() -> None:
        assert (await Exchange(PoolMiddleware(still, pool)).run()).body == b"still"
        assert (await Exchange(routes(pool), "/nowhere").run()).status == 404

    run(main)
    assert pool.stats().connect_errors == 0


def test_tasks_and_threads_of_a_request_share_one_lease(make: Make) -> None:
    """2, 33: BaseHTTPMiddleware in between as well."""
    pool = make()

    class Between(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            request.state.seen = await value(await current_async_connection())
            return await call_next(request)

    async def of_a_task() -> Any:
        return await value(await current_async_connection())

    async def everywhere(request: Request) -> PlainTextResponse:
        seen = [request.state.seen, await of_a_task(), await asyncio.create_task(of_a_task())]
        seen += await asyncio.gather(of_a_task(), of_a_task(), of_a_task())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(of_a_task()) for _ in range(2)]
        seen += [task.result() for task in tasks]
        seen.append(await asyncio.to_thread(sync_value))
        seen.append(await anyio.to_thread.run_sync(sync_value))
        seen.append(await sync_to_async(sync_value, thread_sensitive=False)())
        async with ThreadSensitiveContext():
            seen.append(await sync_to_async(sync_value)())
        assert await request.scope[SCOPE].async_connection() is await current_async_connection()
        assert pool.stats().in_use == 1
        return PlainTextResponse(str(len(set(seen))))

    async def main() -> None:
        done = await Exchange(routes(pool, everywhere, inside=[Middleware(Between)]), "/everywhere").run()
        assert (done.status, done.body) == (200, b"1")
        assert (pool.stats().in_use, pool.stats().borrowed) == (0, 1)

    run(main)


def test_a_lease_is_borrowed_in_a_thread_and_used_by_tasks(make: Make) -> None:
    pool = make(size=1, maxsize=1)

    async def both(request: Request) -> PlainTextResponse:
        first = await asyncio.to_thread(sync_value)
        return PlainTextResponse(str(first == await value(await current_async_connection())))

    async def race(request: Request) -> PlainTextResponse:
        """Threads and tasks that borrow for one request at once, from a pool of one."""
        connections = await asyncio.gather(
            *(asyncio.to_thread(current_connection) for _ in range(4)), *(current_async_connection() for _ in range(4))
        )
        leases = {id(getattr(connection, "lease", connection)) for connection in connections}
        return PlainTextResponse(str(len(leases)))

    async def main() -> None:
        app = routes(pool, both, race)
        assert (await Exchange(app, "/both").run()).body == b"True"
        for _ in range(20):
            assert (await Exchange(app, "/race").run()).body == b"1"

    run(main)


@pytest.mark.parametrize("endpoint", [ok, ok_sync, handled, unhandled, leaves], ids=lambda endpoint: endpoint.__name__)
def test_it_is_given_back_exactly_once_however_the_request_ends(make: Make, endpoint: Any) -> None:
    """3"""
    pool = make()
    app = routes(pool, endpoint)
    app.add_exception_handler(Teapot, lambda request, error: PlainTextResponse("short and stout", 418))

    async def main() -> None:
        exchange = Exchange(app, f"/{endpoint.__name__}")
        try:
            await exchange.run()
        except (ZeroDivisionError, SystemExit):
            assert endpoint in (unhandled, leaves)
        await all_home(pool)
        now = pool.stats()
        assert (now.borrowed, now.returned, now.idle, dict(now.discarded)) == (1, 1, 1, {})

    run(main)


def test_closing_it_oneself_is_allowed_and_the_next_use_borrows_again(make: Make) -> None:
    """4, 15"""
    pool = make()

    async def twice(request: Request) -> PlainTextResponse:
        first = await current_async_connection()
        await first.close()
        with pytest.raises(ReturnConnectionToPoolError):
            await value(first)
        await value(await current_async_connection())
        await request.scope[SCOPE].async_close()
        await request.scope[SCOPE].async_close()
        with pytest.raises(NoRequestScopeError):
            await current_async_connection()
        return PlainTextResponse("twice")

    async def main() -> None:
        assert (await Exchange(routes(pool, twice), "/twice").run()).body == b"twice"
        assert (pool.stats().borrowed, pool.stats().returned) == (2, 2)

    run(main)


def test_installed_twice_it_is_one_lease(make: Make) -> None:
    """11"""
    pool = make()

    async def main() -> None:
        app = PoolMiddleware(routes(pool, ok), pool)
        assert (await Exchange(app, "/ok").run()).body == b"1"
        assert pool.stats().borrowed == 1

    run(main)


def test_two_pools_in_one_request_are_one_lease_each(make: Make) -> None:
    """13: and a timeout names the one that is held."""
    first, second = make(), make(size=1, maxsize=1, name="second", timeout=0.05, pre_create_num=1)

    async def both(request: Request) -> PlainTextResponse:
        assert await value(await current_async_connection()) != await value(await current_async_connection(second))
        return PlainTextResponse("both")

    async def main() -> None:
        app = routes(first, both)
        assert (await Exchange(app, "/both").run()).body == b"both"
        async with second.get_connection(timeout=10):
            assert (await Exchange(app, "/both").run()).status == 503

    run(main)
    assert first.stats().borrowed == 2


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_two_requests_that_take_two_pools_in_crossed_order_end_and_say_why(make: Make, kind: str) -> None:
    """13: a wait in vain says for which pool, and which connection the request holds; then both pools are whole."""
    alpha, beta = (make(size=1, maxsize=1, name=name, timeout=0.3, pre_create_num=1) for name in ("alpha", "beta"))
    failures: list[str] = []
    met = threading.Barrier(2)

    def note(error: PoolTimeout) -> None:
        failures.append("\n".join([str(error), *error.__notes__]))

    async def crossed(request: Request) -> PlainTextResponse:
        first, second = (alpha, beta) if request.query_params["first"] == "alpha" else (beta, alpha)
        await value(await current_async_connection(first))
        await anyio.to_thread.run_sync(met.wait, 10)
        try:
            await value(await current_async_connection(second))
        except PoolTimeout as error:
            note(error)
            raise
        return PlainTextResponse("both")

    def crossed_sync(request: Request) -> PlainTextResponse:
        first, second = (alpha, beta) if request.query_params["first"] == "alpha" else (beta, alpha)
        current_connection(first.pool).ping(reconnect=False)
        met.wait(10)
        try:
            current_connection(second.pool).ping(reconnect=False)
        except PoolTimeout as error:
            note(error)
            raise
        return PlainTextResponse("both")

    async def main() -> None:
        endpoint = crossed if kind == "async" else crossed_sync
        app = routes(alpha, endpoint)
        requests = [
            Exchange(app, f"/{endpoint.__name__}", query_string=f"first={name}".encode()) for name in ("alpha", "beta")
        ]
        async with asyncio.timeout(10):
            await asyncio.gather(*(request.run() for request in requests))
        statuses = sorted(request.status for request in requests)
        assert statuses in ([200, 503], [503, 503])
        assert len(failures) == statuses.count(503)
        for failure in failures:
            assert "pool(alpha)" in failure
            assert "pool(beta)" in failure
        for pool in (alpha, beta):
            async with pool.get_connection(timeout=0):
                assert pool.stats().total == 1

    run(main)


def test_a_second_connection_is_had_by_asking_the_pool_for_it_and_names_the_first_when_there_is_none(
    make: Make,
) -> None:
    """14"""
    pool, alone = make(), make(size=1, maxsize=1, timeout=0.1, pre_create_num=1)

    async def second(request: Request) -> PlainTextResponse:
        lent = await current_async_connection()
        async with pool.get_connection() as another:
            assert await value(another) != await value(lent)
        await current_async_connection(alone)
        with pytest.raises(PoolTimeout, match=r"1 in use(?s:.*)test_scope\.py:\d+ in .*second"):
            await alone.get_connection()
        return PlainTextResponse("second")

    async def main() -> None:
        assert (await Exchange(routes(pool, second), "/second").run()).body == b"second"

    run(main)


def test_a_sync_connection_on_the_event_loop_is_refused(make: Make) -> None:
    pool = make()

    async def wrong(request: Request) -> PlainTextResponse:
        with pytest.raises(RuntimeError, match="would block the event loop"):
            current_connection()
        return PlainTextResponse("refused")

    async def main() -> None:
        assert (await Exchange(routes(pool, wrong), "/wrong").run()).body == b"refused"
        with pytest.raises(NoRequestScopeError, match="no ASGI request"):
            await current_async_connection()

    run(main)
