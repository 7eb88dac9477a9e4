"""Watching what runs on an event loop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymysqlpool._driver import dial
from pymysqlpool._driver.receive import SocketSource
from pymysqlpool.aio import AsyncConnectionPool


async def until(state: Callable[[], bool]) -> None:
    """Let the loop run until `state()` is true; TimeoutError after 10 seconds."""
    async with asyncio.timeout(10):
        while not state():
            await asyncio.sleep(0.001)


async def all_home(pool: AsyncConnectionPool) -> None:
    """Until nothing is lent and no caller waits: a thread that was left gives its connection back a moment later."""
    async with asyncio.timeout(5):
        while (now := pool.stats()).in_use or now.waiting or now.connecting or now.closing:
            await asyncio.sleep(0.001)


@contextmanager
def round_trips_on_a_loop(monkeypatch: Any) -> Iterator[list[str]]:
    """Yield a list of the places that waited for a database server in a thread with a running event loop."""
    made: list[str] = []

    def watched(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watching(*args: Any, **options: Any) -> Any:
            if asyncio._get_running_loop() is not None:
                made.append("".join(traceback.format_stack()))
            return original(*args, **options)

        monkeypatch.setattr(owner, name, watching)

    watched(SocketSource, "run")
    watched(SocketSource, "refill")
    watched(SocketSource, "receive")
    watched(dial, "establish")
    yield made
