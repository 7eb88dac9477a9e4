"""What an operation on a loop costs, in Python calls: of this package and of PyMySQL, without those of asyncio.

Counted, not timed; see `tests/core/test_call_counts.py` for how bounds are changed.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection

from .conftest import Opened

pytestmark = pytest.mark.skipif(not HAS_GIL, reason="without a GIL a borrow takes the lock, which costs more calls")

BOUNDS = {
    "borrow, SELECT 1, return": 58,
    "the same, after a wait": 71,
    "a request with one SELECT, beyond the same SELECT": 19,
}


async def calls(operation: Callable[[], Awaitable[object]]) -> Counter[str]:
    """Python functions that `operation` calls: the fewest of three times, because maintenance comes once a second."""
    for _ in range(5):
        await operation()
    found: list[Counter[str]] = []
    for _ in range(3):
        counted: Counter[str] = Counter()

        def profile(frame: FrameType, event: str, argument: Any, counted: Counter[str] = counted) -> None:
            if event == "call" and frame.f_globals.get("__name__", "").partition(".")[0] in ("pymysqlpool", "pymysql"):
                counted[frame.f_code.co_qualname] += 1

        gc.disable()  # finalizers of other tests' objects are none of ours
        sys.setprofile(profile)
        try:
            await operation()
        finally:
            sys.setprofile(None)
            gc.enable()
        found.append(counted)
    return min(found, key=Counter.total)


def check(what: str, number: float, listing: Counter[str]) -> None:
    named = ", ".join(f"{name} {times}" for name, times in listing.most_common())
    assert number <= BOUNDS[what], f"{what}: {number} Python calls, at most {BOUNDS[what]} allowed. They are: {named}"


async def select(pool: AsyncConnectionPool) -> None:
    connection = await pool.get_connection()
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1")
        assert await cursor.fetchall() == ((1,),)
    await connection.close()


def test_a_select_without_a_wait(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            found = await calls(lambda: select(pool))
            check("borrow, SELECT 1, return", found.total(), found)

    asyncio.run(main())


def test_a_select_after_a_wait(opened: Opened) -> None:
    tasks, each = 20, 10

    async def main() -> None:
        async with opened(size=2, maxsize=2) as pool:

            async def work() -> None:
                for _ in range(each):
                    await select(pool)

            found = await calls(lambda: asyncio.gather(*[work() for _ in range(tasks)]))
            check("the same, after a wait", found.total() / (tasks * each), found)

    asyncio.run(main())


def test_a_request_with_one_select(opened: Opened) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with (await current_async_connection()).cursor() as cursor:
            await cursor.execute("SELECT 1")
            assert await cursor.fetchall() == ((1,),)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            application = PoolMiddleware(app, pool)

            async def request() -> None:
                await application({"type": "http", "method": "GET", "path": "/"}, nothing, nothing)

            alone = await calls(lambda: select(pool))
            found = await calls(request)
            check("a request with one SELECT, beyond the same SELECT", found.total() - alone.total(), found - alone)

    async def nothing(*_: object) -> None: ...

    asyncio.run(main())
