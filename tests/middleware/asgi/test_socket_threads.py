"""Sync code in threads of a websocket: a thread uses the connection of the task that has started it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import sync_to_async

from pymysqlpool._web.task_connection import SocketConnection
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection, sync_connection
from pymysqlpool.request_scope import NoRequestScopeError, current_connection

from .support import Make, Socket, run, value

Starter = Callable[[Callable[[], Any]], Awaitable[Any]]


async def by_asyncio(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


async def by_anyio(call: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(call)


async def by_asgiref(call: Callable[[], Any]) -> Any:
    return await sync_to_async(call, thread_sensitive=False)()


async def by_an_executor(call: Callable[[], Any]) -> Any:
    """As Quart does: no coroutine knows the context."""
    return await asyncio.get_running_loop().run_in_executor(None, copy_context().run, call)


ANY = pytest.mark.parametrize(
    "start", [by_asyncio, by_anyio, by_asgiref, by_an_executor], ids=lambda start: start.__name__
)


def save(number: int) -> None:
    current_connection().cursor().execute("INSERT INTO item VALUES (%s)", (number,))


def commit() -> None:
    current_connection().commit()


def rollback() -> None:
    current_connection().rollback()


def save_whole(number: int) -> None:
    save(number)
    commit()


def served(pool: AsyncConnectionPool, handle: Callable[[], Awaitable[None]], waits: bool = False) -> None:
    """Run `handle` in a websocket; with `waits` as a task, while the websocket's own task awaits a message."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if waits:
            task = asyncio.create_task(handle())  # type: ignore[arg-type]
            task.add_done_callback(lambda _: ended.put_nowait({"type": "websocket.disconnect"}))
            await receive()
            await task
        else:
            await handle()
        await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        nonlocal ended
        one = Socket(PoolMiddleware(app, pool))
        ended = one._in
        await one.task

    ended: Any = None
    run(main)


@ANY
def test_the_rollback_of_one_tasks_thread_leaves_the_work_of_anothers(
    make: Make, table: Callable[[], list[int]], start: Starter
) -> None:
    saved, undone = asyncio.Event(), asyncio.Event()

    async def saves() -> None:
        await start(lambda: save(1))
        saved.set()
        await undone.wait()
        await start(commit)

    async def undoes() -> None:
        await saved.wait()
        await start(lambda: save(2))
        await start(rollback)
        undone.set()

    async def handle() -> None:
        await asyncio.gather(saves(), undoes())

    served(make(), handle)
    assert table() == [1]


@ANY
@pytest.mark.parametrize("waits", [False, True], ids=["its own task", "another task"])
def test_the_calls_of_a_task_continue_each_other(
    make: Make, table: Callable[[], list[int]], start: Starter, waits: bool
) -> None:
    async def handle() -> None:
        await start(lambda: save(1))
        await asyncio.sleep(0)
        await start(lambda: save(2))
        await start(commit)
        await start(lambda: save(3))
        await (await current_async_connection()).commit()
        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (4)")
        await start(commit)

    pool = make(size=1, maxsize=1, timeout=1)
    served(pool, handle, waits)
    assert table() == [1, 2, 3, 4]


def test_a_lease_that_is_about_to_go_back_stays_if_a_thread_gets_it_at_this_moment(
    make: Make, table: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    armed, unchanged, saved = threading.Event(), threading.Event(), threading.Event()

    def has_no_state(connection: SocketConnection) -> bool:  # asked last before the lease goes back
        if armed.is_set():
            armed.clear()
            unchanged.set()
            assert saved.wait(5)
        return False

    def save_then() -> None:
        assert unchanged.wait(5)
        save(2)
        saved.set()

    async def handle() -> None:
        await by_asyncio(lambda: save_whole(1))  # its end lets the loop look for what is idle
        armed.set()
        await by_asyncio(save_then)
        await by_asyncio(commit)

    monkeypatch.setattr(SocketConnection, "has_state", property(has_no_state))
    served(make(), handle, waits=True)
    assert table() == [1, 2]


@ANY
@pytest.mark.parametrize("waits", [False, True], ids=["its own task", "another task"])
def test_what_wait_for_awaits_is_its_tasks(
    make: Make, table: Callable[[], list[int]], start: Starter, waits: bool
) -> None:
    """Up to Python 3.11 `asyncio.wait_for` makes a task of it."""

    async def save_here(number: int) -> None:
        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (%s)", (number,))

    async def handle() -> None:
        await asyncio.wait_for(start(lambda: save(1)), 10)
        await asyncio.wait_for(asyncio.wait_for(save_here(2), 10), 10)
        await asyncio.wait_for(start(commit), 10)

    served(make(size=1, maxsize=1, timeout=1), handle, waits)
    assert table() == [1, 2]


def test_a_message_that_is_awaited_by_wait_for_ends_the_work_on_the_one_before(make: Make) -> None:
    pool = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await asyncio.wait_for(receive(), 10)
            assert (await sync_connection()).open
            await send({"type": "websocket.send", "text": "done"})
        await asyncio.wait_for(receive(), 10)

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        for _ in range(2):
            assert await one.ask("?") == "done"
            async with asyncio.timeout(10):
                while pool.stats().in_use:
                    await asyncio.sleep(0.001)
        await one.leave()

    run(main)


@ANY
def test_a_call_keeps_its_connection_while_another_task_awaits_a_message(
    make: Make, table: Callable[[], list[int]], start: Starter
) -> None:
    pool = make()
    reads, received = threading.Event(), threading.Event()

    def call() -> None:
        connection = current_connection()
        connection.cursor().execute("SELECT COUNT(*) FROM item")
        reads.set()
        received.wait(10)
        connection.cursor().execute("INSERT INTO item VALUES (1)")
        connection.commit()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.create_task(start(call))  # type: ignore[arg-type]
        await asyncio.to_thread(reads.wait, 10)
        for _ in range(2):
            await receive()
        received.set()
        await task
        await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        one = Socket(PoolMiddleware(app, pool))
        for _ in range(2):
            await one._in.put({"type": "websocket.receive", "text": "?"})
        await one.task

    run(main)
    assert table() == [1]


@ANY
def test_a_waiting_socket_holds_nothing_after_the_call_of_another_task(
    make: Make, table: Callable[[], list[int]], start: Starter
) -> None:
    pool = make()

    async def handle() -> None:
        for number in range(3):
            await start(lambda number=number: save_whole(number))  # type: ignore[misc]
            async with asyncio.timeout(10):
                while pool.stats().in_use:
                    await asyncio.sleep(0.001)

    served(pool, handle, waits=True)
    assert table() == [0, 1, 2]


@ANY
def test_a_task_that_was_started_after_a_call_has_a_connection_of_its_own(
    make: Make, table: Callable[[], list[int]], start: Starter
) -> None:
    """asgiref restores the context variables of a call in its task."""

    async def other() -> None:
        await start(lambda: save_whole(2))
        await start(rollback)

    async def handle() -> None:
        await start(current_connection)
        await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (1)")
        task = asyncio.create_task(other())
        await asyncio.wait([task])
        await (await current_async_connection()).commit()

    served(make(), handle)
    assert 1 in table()


def test_a_thread_that_no_task_awaits_is_refused(make: Make, table: Callable[[], list[int]]) -> None:
    def in_a_thread_of_its_own(call: Callable[[], Any]) -> None:
        thread = threading.Thread(target=copy_context().run, args=(call,))
        thread.start()
        thread.join()

    said = []

    def call() -> None:
        try:
            save(1)
        except NoRequestScopeError as error:
            said.append(str(error))

    async def handle() -> None:
        await asyncio.to_thread(in_a_thread_of_its_own, call)
        async with await current_async_connection():
            await asyncio.to_thread(in_a_thread_of_its_own, lambda: save(2))

    served(make(), handle)
    assert "no task of websocket / awaits this call in a thread" in said[0]
    assert table() == [2], "in a block it shares the block's"


def test_a_call_that_a_generator_or_a_dependency_starts_is_its_tasks(
    make: Make, table: Callable[[], list[int]]
) -> None:
    async def generated() -> Any:
        for number in (1, 2):
            await by_asyncio(lambda number=number: save(number))  # type: ignore[misc]
            yield number

    async def handle() -> None:
        async for _ in generated():
            await asyncio.sleep(0)
        assert await value(await current_async_connection(), "SELECT COUNT(*) FROM item") == 2
        await by_anyio(commit)

    served(make(), handle)
    assert table() == [1, 2]
