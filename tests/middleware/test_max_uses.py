"""A connection is replaced after `max_uses` borrows, whoever borrows it, from a pool or from a cluster.

The ways home of a plain borrow are in `tests/core/test_expiry.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool._routing import lending
from pymysqlpool._routing.asking import ask_server
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.asgi import SCOPE, current_async_connection
from pymysqlpool.asgi import PoolMiddleware as AsgiMiddleware
from pymysqlpool.cluster import Cluster
from pymysqlpool.request_scope import current_connection, request_scope
from pymysqlpool.wsgi import PoolMiddleware as WsgiMiddleware
from tests.aio.support import all_home

from .asgi.support import Exchange, Socket, run, still
from .test_wsgi import TEXT, Served

BORROWS = 7
Pool = Any  # a `ConnectionPool` or a `ClusterPool`


class Story:
    """What is done with each connection, and which session each had."""

    def __init__(self, statement: str | None) -> None:
        self.statement = statement
        self.sessions: list[int] = []

    def _note(self, lease: Any) -> None:
        self.sessions.append(lease._slot.wire.attributes()["server_thread_id"][0])  # does not count as use

    def use(self, lease: Any) -> None:
        self._note(lease)
        if self.statement is not None:
            lease.cursor().execute(self.statement)

    async def use_awaited(self, connection: AsyncConnection) -> None:
        self._note(connection.lease)
        if self.statement is not None:
            await connection.cursor().execute(self.statement)


def borrowed(pool: Pool, story: Story) -> None:
    for _ in range(BORROWS):
        with pool.get_connection() as connection:
            story.use(connection)


def in_scopes(pool: Pool, story: Story) -> None:
    for _ in range(BORROWS):
        with request_scope(pool) as scope:
            story.use(scope.connection())


def in_wsgi_requests(pool: Pool, story: Story) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        story.use(current_connection())
        start_response("200 OK", TEXT)
        return [b"done"]

    for _ in range(BORROWS):
        assert Served(WsgiMiddleware(app, pool)).body == b"done"


def awaited(pool: Pool, story: Story) -> None:
    async def main() -> None:
        tasks = AsyncConnectionPool(pool=pool)
        for _ in range(BORROWS):
            async with tasks.get_connection() as connection:
                await story.use_awaited(connection)
            await all_home(tasks)
        tasks.end_threads()

    run(main)


def run_asgi_requests(pool: Pool, app: Any) -> None:
    async def main() -> None:
        tasks = AsyncConnectionPool(pool=pool)
        for _ in range(BORROWS):
            assert (await Exchange(AsgiMiddleware(app, tasks)).run()).status == 200
            await all_home(tasks)
        tasks.end_threads()

    run(main)


def in_asgi_requests(pool: Pool, story: Story) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await story.use_awaited(await current_async_connection())
        await still(scope, receive, send)

    run_asgi_requests(pool, app)


def in_threads_of_asgi_requests(pool: Pool, story: Story) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(lambda: story.use(current_connection()))
        await still(scope, receive, send)

    run_asgi_requests(pool, app)


def on_a_websocket(pool: Pool, story: Story, in_unit: bool = False) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "websocket.receive":
            if in_unit:
                async with scope[SCOPE].unit():
                    await story.use_awaited(await current_async_connection())
            else:
                await story.use_awaited(await current_async_connection())
            if story.statement == "BEGIN" and not in_unit:  # else it keeps the connection, and its locks
                await (await current_async_connection()).rollback()
            await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        tasks = AsyncConnectionPool(pool=pool)
        socket = Socket(AsgiMiddleware(app, tasks))
        for _ in range(BORROWS):
            await socket.ask_once("work")
            await all_home(tasks)
        await socket.leave()
        tasks.end_threads()

    run(main)


def in_units_of_a_websocket(pool: Pool, story: Story) -> None:
    on_a_websocket(pool, story, in_unit=True)


WAYS = [
    borrowed,
    in_scopes,
    in_wsgi_requests,
    awaited,
    in_asgi_requests,
    in_threads_of_asgi_requests,
    on_a_websocket,
    in_units_of_a_websocket,
]


@contextmanager
def lender(of_a_cluster: bool, connect_args: dict[str, Any], **options: Any) -> Iterator[Pool]:
    options = {**connect_args, **options, "size": 1, "maxsize": 1, "max_uses": 3, "timeout": 10}
    if of_a_cluster:
        host = {"host": options.pop("host"), "port": options.pop("port")}
        with Cluster([host], **options) as cluster:
            yield cluster.primary
    else:
        with ConnectionPool(**options) as pool:
            yield pool


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One item for each borrow by which a cluster asks its server for the role: the first, and after each failure."""
    asked: list[object] = []

    def asking(session: Any, *args: Any) -> Any:
        asked.append(session)
        return ask_server(session, *args)

    monkeypatch.setattr(lending, "ask_server", asking)
    return asked


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("statement", [None, "SELECT 1", "BEGIN", "SET @x = 1"])
@pytest.mark.parametrize("way", WAYS)
def test_every_fourth_borrow_from_a_pool_has_a_new_session(
    connect_args: dict[str, Any], way: Callable[[Pool, Story], None], statement: str | None, reset: str
) -> None:
    story = Story(statement)
    with lender(False, connect_args, reset=reset, autocommit=True) as pool:
        way(pool, story)
        assert pool.stats().borrowed == BORROWS
    assert [story.sessions.count(session) for session in dict.fromkeys(story.sessions)] == [3, 3, 1]


@pytest.mark.parametrize("reset", ["auto", "always"])
@pytest.mark.parametrize("statement", [None, "SELECT 1", "BEGIN", "SET @x = 1"])
@pytest.mark.parametrize("way", WAYS)
def test_every_fourth_borrow_from_a_cluster_has_a_new_session(
    connect_args: dict[str, Any],
    way: Callable[[Pool, Story], None],
    statement: str | None,
    reset: str,
    asked: list[object],
) -> None:
    story = Story(statement)
    with lender(True, connect_args, reset=reset, autocommit=True) as pool:
        way(pool, story)
        borrowed = len(asked) + BORROWS
        assert pool.stats().borrowed == borrowed
        assert dict(pool.stats().discarded) == {"worn": borrowed // 3}
    assert max(story.sessions.count(session) for session in story.sessions) == 3
