"""A pool whose every lease must be back at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from tests.serving import ROOT, Web

__all__ = ["ROOT", "Web"]


@pytest.fixture
def pool(make_pool: Callable[..., ConnectionPool]) -> Iterator[ConnectionPool]:
    pool = make_pool(size=2, maxsize=2, timeout=2)
    yield pool
    assert pool.stats().in_use == 0, "a lease was left behind"


@pytest.fixture
def table(admin: Any) -> Iterator[Callable[[], list[int]]]:
    """An empty table `item (id)`; returns what is committed in it."""
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")
        cursor.execute("CREATE TABLE item (id INT PRIMARY KEY) ENGINE=InnoDB")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT id FROM item ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")
