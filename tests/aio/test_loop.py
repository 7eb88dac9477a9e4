"""The event loop is never blocked by us: no call that could wait runs on its thread, and no lock that it takes is held
by another thread during such a call. Seen by the interpreter's profiler, which is shown every call of a C function;
no time is measured.
"""

from __future__ import annotations

import _socket
import asyncio
import gc
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymysql.cursors import SSCursor

from pymysqlpool import PoolTimeout, health, request_scope
from pymysqlpool._async import worker as _worker
from pymysqlpool._async.session import Session
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from tests.middleware.asgi.support import Exchange

from .conftest import Opened
from .support import all_home

_ASYNCIO = str(Path(asyncio.__file__).parent)
# Methods of a socket that return at once, whatever the other side does.
_QUICK = {"shutdown", "close", "fileno", "settimeout", "gettimeout", "setsockopt", "detach"}
_OF_TLS = {"read", "write", "do_handshake", "shutdown"}
_WAITING = [time.sleep, _socket.getaddrinfo]


class Watched:
    """A lock that knows which thread has it, and whether the loop ever waits for it."""

    loop = 0  # the thread
    of_this_thread = threading.local()

    def __init__(self, lock: Any = None) -> None:
        self._lock: Any = lock if lock is not None else threading.Lock()
        self.stops_the_loop = False

    @classmethod
    def held(cls) -> list[Watched]:
        if not hasattr(cls.of_this_thread, "held"):
            cls.of_this_thread.held = []
        return cls.of_this_thread.held  # type: ignore[no-any-return]

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and threading.get_ident() == self.loop:
            self.stops_the_loop = True
        got = self._lock.acquire(blocking, timeout)
        if got:
            self.held().append(self)
        return bool(got)

    def release(self) -> None:
        self.held().remove(self)
        self._lock.release()

    def locked(self) -> bool:
        return bool(self._lock.locked())

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


_NEVER_WAIT = (Session.exchange.__code__, Session._send.__code__, Session._readable.__code__)


def _does_not_wait(frame: Any) -> bool:
    """Whether it is one of the three places that send and receive on the loop: with MSG_DONTWAIT, or over a TLS socket
    that is switched over (as `test_sends_and_receives_on_the_loop_return_at_once` sees)."""
    for _ in range(3):  # two of them may be those of `ssl`
        if frame is not None and frame.f_code in _NEVER_WAIT:
            return True
        frame = frame and frame.f_back
    return False


class Watch:
    """What was called where, from our code or on its behalf."""

    def __init__(self) -> None:
        self.loop = Watched.loop = threading.get_ident()
        self.on_the_loop: list[str] = []
        self.with_locks: list[tuple[list[Watched], str]] = []
        self.seen: Counter[str] = Counter()

    def __call__(self, frame: Any, event: str, called: Any) -> None:
        if event != "c_call" or not self._may_wait(called) or _ASYNCIO in frame.f_code.co_filename:
            return  # the loop's own pipe does not wait
        if _does_not_wait(frame):
            return
        on_the_loop = threading.get_ident() == self.loop
        self.seen["on the loop" if on_the_loop else "in threads"] += 1
        if on_the_loop:
            self.on_the_loop.append(f"{called}\n" + "".join(traceback.format_stack(frame)))
        if Watched.held():
            self.with_locks.append((Watched.held().copy(), f"{called}\n" + "".join(traceback.format_stack(frame))))

    @property
    def while_the_loop_may_wait(self) -> list[str]:
        return [where for locks, where in self.with_locks if any(lock.stops_the_loop for lock in locks)]

    @staticmethod
    def _may_wait(called: Any) -> bool:
        of = getattr(called, "__self__", None)
        if isinstance(of, _socket.socket):
            return called.__name__ not in _QUICK
        return (type(of).__name__ == "_SSLSocket" and called.__name__ in _OF_TLS) or called in _WAITING


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    for module in (_worker, request_scope, health):
        monkeypatch.setattr(module, "new_lock", Watched)
    watch = Watch()
    threading.setprofile(watch)
    sys.setprofile(watch)
    yield watch
    sys.setprofile(None)
    threading.setprofile(None)


def watched(pool: AsyncConnectionPool) -> None:
    lock: Any = pool.pool._lock
    lock._lock = lock._section = Watched(lock._lock)
    lock.locked = lock._lock.locked


async def answer(pool: AsyncConnectionPool, number: int = 1) -> None:
    async with pool.get_connection() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT %s", (number,))
        assert await cursor.fetchall() == ((number,),)


async def leave_dirty(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        await connection.cursor().execute("SET @mine = 1")


async def leave_uncommitted(pool: AsyncConnectionPool) -> None:
    connection = await pool.get_connection()
    await connection.begin()
    await connection.close()


async def leave_half_read(pool: AsyncConnectionPool) -> None:
    connection = await pool.get_connection()
    await connection.cursor(SSCursor).execute("SELECT seq, REPEAT('x', 100) FROM seq_1_to_100000")
    await connection.close()


async def leave_it_to_the_collector(pool: AsyncConnectionPool) -> None:
    await pool.get_connection()
    while pool.stats().in_use:
        await answer(pool)


async def be_cancelled(pool: AsyncConnectionPool) -> None:
    task = asyncio.create_task(slow(pool))
    while pool.stats().in_use == 0:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])


async def slow(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        await connection.cursor().execute("SELECT SLEEP(20)")


async def find_it_dead(pool: AsyncConnectionPool) -> None:
    await answer(pool)
    for slot in pool.pool._ledger.idle_slots():
        slot.wire.cut()
    await answer(pool)


async def find_it_too_old(pool: AsyncConnectionPool) -> None:
    await answer(pool)
    for slot in pool.pool._ledger.idle_slots():
        slot.expires_at = 0.0
    await answer(pool)


async def give_it_back_too_old(pool: AsyncConnectionPool) -> None:
    async with pool.get_connection() as connection:
        slot = connection.lease._slot
        assert slot is not None
        slot.expires_at = 0.0


async def renew(pool: AsyncConnectionPool) -> None:
    await answer(pool)
    await pool.drain()


async def crowd(pool: AsyncConnectionPool) -> None:
    await asyncio.gather(*(answer(pool, number) for number in range(30)))


async def wait_in_vain(pool: AsyncConnectionPool) -> None:
    held = [await pool.get_connection() for _ in range(pool.stats().maxsize)]
    with pytest.raises(PoolTimeout):
        await pool.get_connection(timeout=0.01)
    for connection in held:
        await connection.close()


async def serve(pool: AsyncConnectionPool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/thread":
            await asyncio.to_thread(request_scope.current_connection)
        connection = await current_async_connection()
        await connection.cursor().execute("SET @mine = 1")
        await asyncio.to_thread(request_scope.current_connection)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    application = PoolMiddleware(app, pool, transaction="request", ready_path="/ready")
    application._health.recent = 0.0
    for path in ("/", "/thread", "/ready"):
        assert (await Exchange(application, path).run()).status == 200


@pytest.mark.parametrize(
    "call",
    [
        answer,
        leave_dirty,
        leave_uncommitted,
        leave_half_read,
        leave_it_to_the_collector,
        be_cancelled,
        find_it_dead,
        find_it_too_old,
        give_it_back_too_old,
        renew,
        crowd,
        wait_in_vain,
        serve,
    ],
    ids=lambda call: call.__name__,
)
@pytest.mark.parametrize("link", ["tcp", "unix", "tls"], indirect=True)
def test_the_loop_makes_no_call_that_could_wait(opened: Opened, link: dict[str, Any], watch: Watch, call: Any) -> None:
    hooks: list[bool] = []

    def note(reason: str) -> None:
        hooks.append(threading.get_ident() == watch.loop)

    async def main() -> None:
        async with opened(**link, size=2, maxsize=2, kill_on_cancel=True, on_discard=note) as pool:
            watched(pool)
            await call(pool)
            await all_home(pool)
            await answer(pool)

    asyncio.run(main())
    assert watch.seen["in threads"] > 0, "the profiler sees what the worker threads do"
    assert not watch.on_the_loop, watch.on_the_loop[0]
    assert not watch.while_the_loop_may_wait, watch.while_the_loop_may_wait[0]
    assert not any(hooks), "a hook of the user's ran on the loop"


def test_the_watch_sees_what_it_looks_for(watch: Watch) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert "method send of" in watch.on_the_loop[0]
        with Watched():
            other.recv(1)
        assert "method recv of" in watch.while_the_loop_may_wait[0]
        assert len(watch.while_the_loop_may_wait) == len(watch.with_locks) == 1
        assert watch.seen == {"on the loop": 2}


def test_no_step_on_the_loop_computes_for_long(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time of the loop's thread, which neither a busy machine nor another thread adds to. 20 ms is the promise."""
    longest: list[int] = [0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time_ns()
        run(handle)
        longest[0] = max(longest[0], time.thread_time_ns() - began)

    async def main() -> None:
        async with opened(size=8, maxsize=8, kill_on_cancel=True) as pool:
            await asyncio.gather(*(answer(pool) for _ in range(8)))
            monkeypatch.setattr(asyncio.Handle, "_run", timed)
            asked = [asyncio.create_task(answer(pool, number)) for number in range(200)]
            asked += [asyncio.create_task(leave_half_read(pool)) for _ in range(20)]
            hogs = [asyncio.create_task(slow(pool)) for _ in range(8)]
            await asyncio.wait(asked[:100])
            for task in [*asked[::3], *hogs]:
                task.cancel()
            await asyncio.gather(*asked, *hogs, return_exceptions=True)
            await all_home(pool)
            monkeypatch.undo()

    gc.collect()
    gc.disable()  # the collector looks at the whole test session
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    assert 0 < longest[0] < 20_000_000, f"{longest[0] / 1e6:.1f} ms"
