"""The ASGI middleware, without a server (behaviours 1 to 4, 11, 13 to 15, 20 to 22, 24, 25, 28, 30, 32 to 38, 44 to 48,
50, 58)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextvars import Context
from time import monotonic
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from pymysql import err
from pymysql.cursors import SSCursor

from pymysqlpool import ConnectionPool, PoolTimeout, ReturnConnectionToPoolError
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.asgi import DEADLINE, SCOPE, PoolMiddleware, current_async_connection, sync_connection
from pymysqlpool.request_scope import NoRequestScopeError, current_connection
from tests.aio.support import all_home, round_trips_on_a_loop

starlette = pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402 - after the check that it is there
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse, StreamingResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

Make = Callable[..., AsyncConnectionPool]


@pytest.fixture(autouse=True)
def no_round_trip_on_a_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with round_trips_on_a_loop(monkeypatch) as made:
        yield
    assert not made, made[0]


@pytest.fixture
def make(make_pool: Callable[..., ConnectionPool]) -> Iterator[Make]:
    """Pools that end, with their threads, when the test does; then nothing may be lent."""
    pools: list[AsyncConnectionPool] = []

    def make(**options: Any) -> AsyncConnectionPool:
        pools.append(AsyncConnectionPool(pool=make_pool(**{"size": 2, "maxsize": 2, "timeout": 5, **options})))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.stats().in_use == 0, "a lease was left behind"
        pool.end_threads()


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


# -- lifecycle -------------------------------------------------------------------------------------------------


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
    """13: whoever waits in vain says for which pool, and which one it holds; then both pools are whole."""
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
        with pytest.raises(PoolTimeout, match=r"1 in use(?s:.*)test_asgi\.py:\d+ in .*second"):
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


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_a_stream_frees_its_connection_at_once(make: Make) -> None:
    """20: the half-read result is discarded, not drained."""
    pool = make()

    async def export(request: Request) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            async with (await current_async_connection()).cursor(SSCursor) as cursor:
                await cursor.execute("SELECT seq, REPEAT('x', 200) FROM seq_1_to_5000000")
                async for number, _ in cursor:
                    yield f"{number}\n"

        return StreamingResponse(rows())

    async def main() -> None:
        exchange = Exchange(routes(pool, export), "/export")
        task = asyncio.create_task(exchange.run())
        while len(exchange.body) < 50:
            await asyncio.sleep(0.001)
        exchange.disconnect.set()
        await asyncio.wait_for(task, 2)
        await all_home(pool)
        assert sum(pool.stats().discarded.values()) == 1

    run(main)


def test_a_sync_generator_that_is_finalised_late_has_no_connection_any_more(make: Make) -> None:
    """21, 35: every next() may come from another thread."""
    pool = make()
    late: list[Any] = []

    def rows() -> Generator[str, None, None]:
        connection = current_connection()
        try:
            for number in range(1000):
                yield f"{sync_value(f'SELECT {number}')}\n"
        finally:
            try:
                connection.cursor().execute("SELECT 1")
            except ReturnConnectionToPoolError as error:
                late.append(error)

    body = rows()

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(body)

    async def main() -> None:
        exchange = Exchange(routes(pool, stream), "/stream")
        task = asyncio.create_task(exchange.run())
        while len(exchange.body) < 20:
            await asyncio.sleep(0.001)
        exchange.disconnect.set()
        await asyncio.wait_for(task, 2)
        assert pool.stats().in_use == 0

    run(main)
    body.close()
    assert len(late) == 1


def test_open_streams_hold_no_connection_when_told_to_release_it(make: Make) -> None:
    """22: a pool of 2, 25 streams that ask now and then, and other requests in between."""
    pool = make()

    async def events(request: Request) -> StreamingResponse:
        await value(await current_async_connection())

        async def ticks() -> AsyncIterator[str]:
            for _ in range(3):
                yield f"{await value(await current_async_connection(), 'SELECT 7')}\n"
            await asyncio.Event().wait()

        return StreamingResponse(ticks())

    async def main() -> None:
        app = routes(pool, events, ok, release_on_response_start=True)
        streams = [Exchange(app, "/events") for _ in range(25)]
        tasks = [asyncio.create_task(stream.run()) for stream in streams]
        while any(stream.body != b"7\n7\n7\n" for stream in streams):
            await asyncio.sleep(0.001)
        assert pool.stats().in_use == 0
        assert [(await Exchange(app, "/ok").run()).body for _ in range(10)] == [b"1"] * 10
        for stream in streams:
            stream.disconnect.set()
        await asyncio.gather(*tasks)

    run(main)
    assert pool.stats().created <= 2


# -- transactions ----------------------------------------------------------------------------------------------


async def post(request: Request) -> PlainTextResponse:
    await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")
    return PlainTextResponse("", int(request.headers.get("status", 200)))


def post_sync(request: Request) -> PlainTextResponse:
    current_connection().cursor().execute("INSERT INTO item VALUES (1)")
    return PlainTextResponse("", int(request.headers.get("status", 200)))


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


def test_a_request_cancelled_while_it_commits_is_committed_to_the_end(
    make: Make, table: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make()
    committing, go_on = threading.Event(), threading.Event()
    from pymysqlpool import transaction

    commit = transaction.commit

    def slowly(connection: Any) -> None:
        committing.set()
        go_on.wait(10)
        commit(connection)

    monkeypatch.setattr(transaction, "commit", slowly)

    async def main() -> None:
        task = asyncio.create_task(Exchange(routes(pool, post, transaction="request"), "/post").run())
        await asyncio.to_thread(committing.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.stats().in_use == 1, "the thread still uses it"
        go_on.set()
        await all_home(pool)

    run(main)
    assert table() == [1]


# -- cancellation and crowds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "sync by anyio", "sync by to_thread"])
def test_a_cancelled_requests_connection_goes_to_nobody_while_its_thread_uses_it(make: Make, kind: str) -> None:
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


# -- websockets ------------------------------------------------------------------------------------------------


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

    async def leave(self) -> None:
        await self._in.put({"type": "websocket.disconnect"})
        await self.task


def test_idle_websockets_hold_nothing(make: Make) -> None:
    """38: a hundred of them on a pool of two; what a message has not committed is not there for the next."""
    pool = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            connection = await current_async_connection()
            await connection.cursor().execute("SET @last = COALESCE(@last, 0) + 1")
            answer = await value(connection, f"SELECT CONCAT(@last, ' {message['text']}')")
            await send({"type": "websocket.send", "text": answer})

    async def main() -> None:
        sockets = [Socket(PoolMiddleware(app, pool)) for _ in range(100)]
        for round_ in range(2):
            answers = await asyncio.gather(*(one.ask(f"{n}") for n, one in enumerate(sockets)))
            assert answers == [f"1 {number}" for number in range(100)], round_
            await all_home(pool)
        assert pool.stats().total <= 2
        for one in sockets:
            await one.leave()
        assert pool.stats().borrowed == 200

    run(main)


def test_a_unit_keeps_the_lease_while_another_task_waits_for_the_next_message(make: Make) -> None:
    """38"""
    pool = make()
    kept: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def work(asked: asyncio.Event) -> None:
            async with scope[SCOPE].unit():
                before = await value(await current_async_connection(), "SELECT CONNECTION_ID()")
                connection = await current_async_connection()
                await asked.wait()
                kept.append(await value(connection) == before)

        asked = asyncio.Event()
        task = asyncio.create_task(work(asked))
        while pool.stats().in_use == 0:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.02, asked.set)
        await receive()
        await task
        assert pool.stats().in_use == 0, "the end of the unit gives it back"

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        while not kept:
            await asyncio.sleep(0.001)
        await one.leave()

    run(main)
    assert kept == [True]


# -- overload --------------------------------------------------------------------------------------------------


def test_no_connection_in_time_is_a_503_with_retry_after(make: Make) -> None:
    """44, 45, 46"""
    exhausted, down = make(size=1, maxsize=1, timeout=0.05), make(host="127.0.0.1", port=1, timeout=0.3)
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
        return [record.getMessage() for record in caplog.records if "503" in record.getMessage()]

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


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_500_after_a_second_borrow_that_was_good_stays_a_500(make: Make, kind: str) -> None:
    """44: the first one, which failed, was not what ended the request."""
    pool = make(size=1, maxsize=1, timeout=0.05)

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
    pool = make(size=1, maxsize=1, timeout=0.05)
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
    pool = make(size=1, maxsize=1, timeout=0.05)

    async def main() -> None:
        async with pool.get_connection(timeout=10):
            done = await asyncio.wait_for(Exchange(routes(pool, ok, deadline=60), "/ok").run(), 10)
            assert done.status == 503

    run(main)


# -- health ----------------------------------------------------------------------------------------------------


async def readiness(app: Any, method: str = "GET") -> tuple[int, dict[str, Any]]:
    done = await asyncio.wait_for(Exchange(app, "/ready", method).run(), 10)
    return done.status, json.loads(done.body or b"{}")


def test_a_pool_that_is_exhausted_but_works_is_ready(make: Make) -> None:
    """50: it borrows nothing, waits behind nobody, takes no slot, and does not even ask the server."""
    pool = make(size=1, maxsize=1, timeout=30)

    async def main() -> None:
        app = routes(pool, ok, ready_path="/ready")
        async with pool.get_connection():
            waiting = asyncio.create_task(Exchange(app, "/ok").run())
            while pool.stats().waiting < 1:
                await asyncio.sleep(0.001)
            before = pool.stats()
            assert await readiness(app) == (
                200,
                {
                    "ready": True,
                    "reason": "a connection was used a moment ago",
                    "in_use": 1,
                    "idle": 0,
                    "waiting": 1,
                    "maxsize": 1,
                },
            )
            assert await readiness(app, "HEAD") == (200, {})
            assert pool.stats() == before
        assert (await waiting).body == b"1"
        assert (await Exchange(app, "/ready", "POST").run()).status == 404, "only GET and HEAD are ours"

    run(main)


def test_without_recent_proof_the_server_is_asked_beside_the_pool(make: Make, admin: Any) -> None:
    """50: many who ask at once ask it once."""
    pool = make(size=1, maxsize=1, timeout=30)

    def sessions() -> int:
        with admin.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Connections'")
            return int(cursor.fetchone()[1])

    async def main() -> None:
        app = PoolMiddleware(still, pool, ready_path="/ready")
        async with pool.get_connection():
            app._health.recent = 0.0  # what happened lately is no proof
            before = await asyncio.to_thread(sessions)
            answers = await asyncio.gather(*(readiness(app) for _ in range(20)))
            assert {(status, health["reason"]) for status, health in answers} == {(200, "the server answers")}
            assert await asyncio.to_thread(sessions) == before + 1
        app._health.recent = 60.0
        now = pool.stats()
        assert (now.borrowed, now.created) == (1, 1)

    run(main)


def test_a_database_that_is_down_is_not_ready(make: Make) -> None:
    """50: said within a second, also when it takes connections and never answers; a closed pool is not ready either."""
    down = make(host="127.0.0.1", port=1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        mute = make(host="127.0.0.1", port=silent.getsockname()[1], timeout=30)

        async def main() -> None:
            for pool, number in ((down, 2003), (mute, 2013)):
                began = monotonic()
                status, health = await readiness(PoolMiddleware(still, pool, ready_path="/ready"))
                assert (status, health["reason"]) == (503, f"no session could be opened ({number})")
                assert monotonic() - began < 5
            assert (await Exchange(PoolMiddleware(still, down)).run()).body == b"still", "liveness asks nobody"
            closed = make()
            await closed.close()
            status, health = await readiness(PoolMiddleware(still, closed, ready_path="/ready"))
            assert (status, health["reason"]) == (503, "the pool is closed")

        run(main)


def test_a_handler_of_the_applications_own_wins(make: Make) -> None:
    """44"""
    pool = make(size=1, maxsize=1, timeout=0.05)
    app = routes(pool, ok)
    app.add_exception_handler(PoolTimeout, lambda request, error: PlainTextResponse("a crowd", 429))

    async def main() -> None:
        async with pool.get_connection(timeout=10):
            assert (await Exchange(app, "/ok").run()).status == 429

    run(main)


def test_after_the_head_the_error_goes_to_the_server(make: Make) -> None:
    """44"""
    pool = make(size=1, maxsize=1, timeout=0.05)

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


def test_server_timing_is_added_when_something_was_borrowed(make: Make) -> None:
    """48"""
    pool = make()

    async def idle(request: Request) -> PlainTextResponse:
        return PlainTextResponse("idle")

    async def main() -> None:
        app = routes(pool, ok, idle, server_timing=True)
        assert (await Exchange(app, "/ok").run()).headers["server-timing"].startswith("dbwait;dur=")
        assert "server-timing" not in (await Exchange(app, "/idle").run()).headers

    run(main)


def test_server_timing_is_added_to_what_the_application_has_set(make: Make) -> None:
    """48: and is made of valid tokens; a request that borrowed nothing keeps the application's alone."""
    pool = make()

    async def main() -> None:
        for borrows in (True, False):
            heads: list[dict[str, Any]] = []

            async def app(scope: Any, receive: Any, send: Any, borrows: bool = borrows) -> None:
                if borrows:
                    await value(await current_async_connection())
                headers = [(b"server-timing", b"app;dur=1.5"), (b"x-other", b"kept")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"timed"})

            async def send(message: Any, heads: list[dict[str, Any]] = heads) -> None:
                if message["type"] == "http.response.start":
                    heads.append(message)

            exchange = Exchange(app)
            await PoolMiddleware(app, pool, server_timing=True)(exchange.scope, exchange.receive, send)
            (head,) = heads
            assert (b"x-other", b"kept") in head["headers"]
            timings = [text.decode() for name, text in head["headers"] if name == b"server-timing"]
            assert timings[0] == "app;dur=1.5"
            assert len(timings) == 1 + borrows
            for timing in timings[1:]:
                assert re.fullmatch(r'dbwait;dur=\d+\.\d+, db;dur=\d+\.\d+;desc="1 query"', timing), timing

    run(main)


# -- lifespan and the rest -------------------------------------------------------------------------------------


async def live(app: Any) -> list[dict[str, Any]]:
    """One lifespan, as a server drives it; returns what the application said."""
    said: list[dict[str, Any]] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(events)

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app({"type": "lifespan"}, receive, send)
    return said


async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


@pytest.mark.parametrize("inner", [Starlette(), no_lifespan], ids=["starlette", "plain"])
def test_the_lifespan_ends_a_pool_that_the_middleware_owns(make: Make, inner: Any) -> None:
    """58: whether the application has a lifespan itself or not."""
    pool = make()

    async def main() -> None:
        said = await live(PoolMiddleware(inner, pool, owns_pool=True, eager=True))
        assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(main)
    assert pool.stats().created == 1
    assert "closed" in repr(pool)


@pytest.mark.parametrize("inner", [Starlette(), no_lifespan], ids=["starlette", "plain"])
def test_a_start_that_fails_is_said_only_when_eager(make: Make, inner: Any) -> None:
    """58"""

    async def main() -> None:
        for eager in (False, True):
            pool = make(host="127.0.0.1", port=1, timeout=0.1)
            said = await live(PoolMiddleware(inner, pool, owns_pool=True, eager=eager))
            assert said[0]["type"] == ("lifespan.startup.failed" if eager else "lifespan.startup.complete")
            assert len(said) == (1 if eager else 2)

    run(main)


def test_other_scopes_are_handed_on_untouched(make: Make) -> None:
    """58"""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    async def main() -> None:
        untouched: Any = ({"type": "mail"}, object(), object())
        await PoolMiddleware(app, make())(*untouched)
        assert all(one is other for one, other in zip(seen[0], untouched, strict=True))
        assert untouched[0] == {"type": "mail"}
        with pytest.raises(AssertionError):
            await PoolMiddleware(no_lifespan, make())({"type": "lifespan"}, *untouched[1:])

    run(main)
