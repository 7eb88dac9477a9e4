"""A pool awaited, and the promise that nothing is said to the server on the event loop's thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from benchmarks.bench import Bench
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer

from .support import all_home, round_trips_on_a_loop

Opened = Callable[..., AbstractAsyncContextManager[AsyncConnectionPool]]


@pytest.fixture(autouse=True)
def no_round_trip_on_a_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with round_trips_on_a_loop(monkeypatch) as made:
        yield
    assert not made, made[0]


@pytest.fixture(scope="session")
def tls_args() -> Iterator[dict[str, Any]]:
    """Arguments for connecting to a server that has TLS."""
    pytest.importorskip("cryptography")
    with Bench() as bench:
        yield bench.tls


@pytest.fixture
def link(request: pytest.FixtureRequest, server: DevServer) -> dict[str, Any]:
    """What to add to the arguments for a connection over "tcp", "unix" or "tls"; to be parametrized."""
    if request.param == "tls":
        return {**request.getfixturevalue("tls_args"), "ssl_disabled": False}
    return {"unix_socket": server.unix_socket} if request.param == "unix" else {}


@pytest.fixture
def opened(connect_args: dict[str, Any]) -> Opened:
    """`async with opened(...) as pool`: closed at the end, when nothing may be lent any more."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[AsyncConnectionPool]:
        async with AsyncConnectionPool(**{**connect_args, "timeout": 10, **options}) as pool:
            yield pool
            await all_home(pool)
        assert pool.pool.connection_num == 0

    return opened
