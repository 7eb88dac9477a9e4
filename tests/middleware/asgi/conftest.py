"""Pools that must be whole at the end, and the promise that nothing is said to the server on the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from tests.aio.support import round_trips_on_a_loop


@pytest.fixture(autouse=True)
def no_round_trip_on_a_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with round_trips_on_a_loop(monkeypatch) as made:
        yield
    assert not made, made[0]


@pytest.fixture
def make(make_pool: Callable[..., ConnectionPool]) -> Iterator[Callable[..., AsyncConnectionPool]]:
    """Pools that end, with their threads, when the test does; then nothing may be lent."""
    pools: list[AsyncConnectionPool] = []

    def make(**options: Any) -> AsyncConnectionPool:
        pools.append(AsyncConnectionPool(pool=make_pool(**{"size": 2, "maxsize": 2, "timeout": 5, **options})))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.stats().in_use == 0, "a lease was left behind"
        pool.end_threads()
