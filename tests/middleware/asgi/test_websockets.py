"""When a websocket holds a connection (behaviour 38)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import SCOPE, PoolMiddleware, current_async_connection
from pymysqlpool.cluster import Cluster
from tests.aio.support import all_home
from tests.support import wait_until

from .support import (
    Make,
    Socket,
    run,
    value,
)


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


class Pumped:
    """A websocket whose messages another task receives, as in Quart: the handler only sees a queue."""

    def __init__(self, handler: Callable[[asyncio.Queue[str], Callable[[str], Any]], Any]) -> None:
        self._handler = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def pump() -> None:
            while (message := await receive())["type"] == "websocket.receive":
                queue.put_nowait(message["text"])

        async def reply(text: str) -> None:
            await send({"type": "websocket.send", "text": text})

        pumping = asyncio.create_task(pump())
        handling = asyncio.create_task(self._handler(queue, reply))
        await pumping
        handling.cancel()
        await asyncio.wait([handling])


def test_uncommitted_changes_stay_with_their_task_when_another_one_receives(
    make: Make, table: Callable[[], list[int]]
) -> None:
    """The next message comes while the last one is being worked on: nothing that was told committed is missing."""
    pool = make()

    async def handler(queue: asyncio.Queue[str], reply: Callable[[str], Any]) -> None:
        while True:
            number = await queue.get()
            await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (%s)", (number,))
            await asyncio.sleep(0.05)
            await (await current_async_connection()).commit()
            await reply(number)

    async def main() -> None:
        one = Socket(PoolMiddleware(Pumped(handler), pool))
        answers = await asyncio.gather(*(one.ask(str(number)) for number in range(5)))
        assert sorted(answers) == [str(number) for number in range(5)]
        assert await asyncio.to_thread(table) == list(range(5))
        assert pool.stats().in_use == 0, "a socket that waits holds nothing"
        await one.leave()

    run(main)


def test_sockets_of_a_queue_hold_nothing_while_they_wait_and_see_what_others_commit(
    make: Make, table: Callable[[], list[int]], admin: Any
) -> None:
    """Thirty sockets on a pool of two, which keep their connection object: it borrows anew, and has no old snapshot."""
    pool = make()

    async def handler(queue: asyncio.Queue[str], reply: Callable[[str], Any]) -> None:
        connection = await current_async_connection()
        while True:
            await queue.get()
            await reply(str(await value(connection, "SELECT COUNT(*) FROM item")))

    def insert(number: int) -> None:
        with admin.cursor() as cursor:
            cursor.execute("INSERT INTO item VALUES (%s)", (number,))

    async def main() -> None:
        sockets = [Socket(PoolMiddleware(Pumped(handler), pool)) for _ in range(30)]
        for number in range(3):
            assert {await one.ask("?") for one in sockets} == {str(number)}
            assert pool.stats().in_use == 0
            await asyncio.to_thread(insert, number)
        for one in sockets:
            await one.leave()

    run(main)
    assert pool.stats().total <= 2


def test_a_socket_waiting_with_uncommitted_changes_keeps_them_and_says_so(
    make: Make, table: Callable[[], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            connection = await current_async_connection()
            if message["text"] == "commit":
                await connection.commit()
            else:
                await connection.cursor().execute("INSERT INTO item VALUES (%s)", (message["text"],))
            await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        for text in ("1", "2", "commit", "3"):
            await one.ask(text)
        await one.leave()
        await all_home(pool)

    run(main)
    assert table() == [1, 2], "what was never committed is rolled back at the end"
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("waits for the next message with uncommitted changes" in line for line in said) == 3
    assert any("ended with uncommitted changes" in line for line in said)


@pytest.mark.parametrize("begin", ["SELECT id FROM item FOR UPDATE", "START TRANSACTION READ ONLY"])
def test_a_transaction_that_was_begun_to_read_stays(make: Make, table: Callable[[], list[int]], begin: str) -> None:
    pool = make()

    async def handler(queue: asyncio.Queue[str], reply: Callable[[str], Any]) -> None:
        connection = await current_async_connection()
        await connection.cursor().execute(begin)
        before = await value(connection)
        await asyncio.sleep(0.05)
        await reply(str(before == await value(connection)))
        await connection.rollback()

    async def main() -> None:
        one = Socket(PoolMiddleware(Pumped(handler), pool))
        assert await one.ask("?") == "True"
        await all_home(pool)
        await one.leave()

    run(main)


def test_session_state_that_is_not_used_for_a_while_goes_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymysqlpool._web.socket_share._UNUSED", 0.2)
    pool = make()

    async def handler(queue: asyncio.Queue[str], reply: Callable[[str], Any]) -> None:
        connection = await current_async_connection()
        await connection.cursor().execute("SET @mine = 7")
        await asyncio.sleep(0.01)
        await reply(str(await value(connection, "SELECT @mine")))

    async def main() -> None:
        one = Socket(PoolMiddleware(Pumped(handler), pool))
        assert await one.ask("?") == "7"
        await all_home(pool)
        await one.leave()

    run(main)


def test_tasks_inside_a_block_use_its_connection_and_others_their_own(make: Make) -> None:
    pool = make()
    seen: dict[str, list[Any]] = {}

    async def mine(met: asyncio.Barrier | None = None) -> Any:
        connection = await current_async_connection()
        if met is not None:
            await connection.begin()
            await met.wait()
        return await value(connection)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with (await current_async_connection()).transaction():
            seen["inside"] = [await mine(), *await asyncio.gather(mine(), mine())]
        seen["outside"] = await asyncio.gather(mine(met := asyncio.Barrier(2)), mine(met))
        await send({"type": "websocket.send", "text": "done"})
        await receive()

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        await one.ask("?")
        await one.leave()
        await all_home(pool)

    run(main)
    assert len(set(seen["inside"])) == 1
    assert len(set(seen["outside"])) == 2


def test_a_task_that_outlives_its_socket_keeps_its_transaction(make: Make, table: Callable[[], list[int]]) -> None:
    pool = make()
    ended: list[str] = []

    async def main() -> None:
        saving = []
        left = asyncio.Event()

        async def save() -> None:
            connection = await current_async_connection()
            await connection.cursor().execute("INSERT INTO item VALUES (1)")
            await left.wait()
            await (await current_async_connection()).commit()
            ended.append("committed")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            saving.append(asyncio.create_task(save()))
            while pool.stats().in_use == 0:
                await asyncio.sleep(0.001)

        one = Socket(PoolMiddleware(app, pool))
        await one.leave()
        left.set()
        await saving[0]
        await all_home(pool)

    run(main)
    assert ended == ["committed"]
    assert table() == [1]


def test_a_task_that_ends_with_uncommitted_changes_is_rolled_back_and_named(
    make: Make, table: Callable[[], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make()

    async def forgets() -> None:
        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.create_task(forgets(), name="forgetful")
        await all_home(pool)

    async def main() -> None:
        await Socket(PoolMiddleware(app, pool)).leave()

    run(main)
    assert table() == []
    assert "task 'forgetful' ended with uncommitted changes" in caplog.text


def test_a_block_of_the_connection_commits_and_gives_back(make: Make, table: Callable[[], list[int]]) -> None:
    pool = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            async with await current_async_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("INSERT INTO item VALUES (%s)", (message["text"],))
            assert pool.stats().in_use == 0
            await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        await one.ask("1")
        await one.ask("2")
        await one.leave()

    run(main)
    assert table() == [1, 2]


def test_a_cancelled_statement_of_a_websocket_of_a_cluster_is_stopped_on_the_server(
    connect_args: dict[str, Any], admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    host = {"host": connect_args["host"], "port": connect_args["port"]}
    options = {name: value for name, value in connect_args.items() if name not in host}

    def running() -> int:
        with admin.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(25), 654'")
            return int(cursor.fetchone()[0])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def work() -> None:
            await (await current_async_connection()).cursor().execute("SELECT SLEEP(25), 654")

        statement = asyncio.create_task(work())
        await asyncio.to_thread(wait_until, running, "the statement runs")
        statement.cancel()
        await asyncio.gather(statement, return_exceptions=True)
        await receive()

    async def main() -> None:
        with Cluster([host], size=1, maxsize=1, **options) as cluster:
            pool = AsyncConnectionPool(pool=cluster.primary, kill_on_cancel=True)
            one = Socket(PoolMiddleware(app, pool))
            await one.leave()
            await asyncio.to_thread(wait_until, lambda: not running(), "the server stops it")
            await all_home(pool)
            pool.end_threads()

    run(main)
    said = [record.getMessage() for record in caplog.records]
    assert not [text for text in said if "cancelled statement" in text], "the server may end it by itself, too, later"
