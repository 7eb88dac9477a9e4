"""Websockets of real frameworks under a real server: nothing that was told committed is missing, and a socket that
waits holds no connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from tests.support import wait_until

from .support import Make, value

uvicorn = pytest.importorskip("uvicorn")
client = pytest.importorskip("websockets.sync.client")


@pytest.fixture(scope="session", autouse=True)
def asgirefs_thread() -> None:
    """Its one thread for sync code, which Channels uses, stays for good: let it be there before the tests."""
    asyncio.run(sync_to_async(lambda: None)())


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of `app` under uvicorn, in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started, "the server listens")
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


async def save(number: str) -> None:
    """What a handler does with a message; it takes so long that the next one comes meanwhile."""
    await (await current_async_connection()).cursor().execute("INSERT INTO item VALUES (%s)", (number,))
    await asyncio.sleep(0.1)
    await (await current_async_connection()).commit()


async def count() -> str:
    return str(await value(await current_async_connection(), "SELECT COUNT(*) FROM item"))


def fastapi(pool: AsyncConnectionPool) -> Any:
    """A task reads, another one writes."""
    framework = pytest.importorskip("fastapi")
    app = framework.FastAPI()

    async def talk(websocket: Any) -> None:
        await websocket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            async for text in websocket.iter_text():
                await queue.put(text)

        async def write() -> None:
            while True:
                text = await queue.get()
                if text == "?":
                    await websocket.send_text(await count())
                else:
                    await save(text)
                    await websocket.send_text(text)

        writing = asyncio.create_task(write())
        await read()
        writing.cancel()

    talk.__annotations__["websocket"] = framework.WebSocket
    app.add_api_websocket_route("/", talk)
    return PoolMiddleware(app, pool)


def quart(pool: AsyncConnectionPool) -> Any:
    """The framework reads, into a queue."""
    framework = pytest.importorskip("quart")
    app = framework.Quart(__name__)

    @app.websocket("/")  # type: ignore[untyped-decorator,unused-ignore]
    async def talk() -> None:
        while True:
            text = await framework.websocket.receive()
            if text == "?":
                await framework.websocket.send(await count())
            else:
                await save(text)
                await framework.websocket.send(text)

    return PoolMiddleware(app, pool)


def channels(pool: AsyncConnectionPool) -> Any:
    """A consumer: the framework reads in a task of its own, beside the consumer's."""
    pytest.importorskip("channels")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc,unused-ignore]
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            assert text_data is not None
            if text_data == "?":
                await self.send(await count())
            else:
                await save(text_data)
                await self.send(text_data)

    return PoolMiddleware(Consumer.as_asgi(), pool)


FRAMEWORKS = (fastapi, quart, channels)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.__name__)
def test_nothing_that_was_told_committed_is_missing(
    make: Make, table: Callable[[], list[int]], framework: Callable[[AsyncConnectionPool], Any]
) -> None:
    pool = make()
    with serving(framework(pool)) as address, client.connect(f"ws://{address}/") as one:
        for number in range(4):
            one.send(str(number))
        assert [one.recv(timeout=10) for _ in range(4)] == ["0", "1", "2", "3"]
        assert table() == [0, 1, 2, 3]
        wait_until(lambda: pool.stats().in_use == 0, "it holds nothing while it waits")


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.__name__)
def test_sockets_that_wait_hold_no_connection_and_no_old_snapshot(
    make: Make, table: Callable[[], list[int]], admin: Any, framework: Callable[[AsyncConnectionPool], Any]
) -> None:
    pool = make()
    with serving(framework(pool)) as address, ExitStack() as stack:
        sockets = [stack.enter_context(client.connect(f"ws://{address}/")) for _ in range(10)]
        for number in range(3):
            for one in sockets:
                one.send("?")
            assert {one.recv(timeout=10) for one in sockets} == {str(number)}
            wait_until(lambda: pool.stats().in_use == 0, "they hold nothing while they wait")
            with admin.cursor() as cursor:
                cursor.execute("INSERT INTO item VALUES (%s)", (number,))
    assert pool.stats().total <= 2


def test_events_of_socketio_have_a_connection_each(make: Make, table: Callable[[], list[int]]) -> None:
    """python-socketio handles each event in a task of its own, and the client may be gone before it is done."""
    socketio = pytest.importorskip("socketio")
    pytest.importorskip("websocket")
    pool = make()
    server = socketio.AsyncServer(async_mode="asgi")

    async def saved(sid: str, number: int) -> int:
        await save(str(number))
        return number

    server.on("save", saved)
    with serving(PoolMiddleware(socketio.ASGIApp(server), pool)) as address:
        one = socketio.Client()
        one.connect(f"http://{address}", transports=["websocket"], wait_timeout=10)
        told: list[int] = []
        for number in range(6):
            one.emit("save", number, callback=told.append)
        wait_until(lambda: len(told) == 6, "all are told")
        assert table() == sorted(told) == list(range(6))
        wait_until(lambda: pool.stats().in_use == 0, "it holds nothing while it waits")
        one.emit("save", 6)
        wait_until(lambda: pool.stats().in_use == 1, "it works on it")
        one.disconnect()
        wait_until(lambda: pool.stats().in_use == 0, "the task ends its work")
        assert 6 in table(), "though its socket is closed"
