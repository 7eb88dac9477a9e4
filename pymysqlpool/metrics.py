"""The pools of this process, and their numbers as plain data: what every exporter starts from.

Never: sends or keeps numbers, or shows a secret (`label` has neither a user nor a path).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ._pool.core import open_pools
from .pool import ConnectionPool
from .stats import BOUNDS, Histogram, PoolStats

__all__ = ["BOUNDS", "Histogram", "PoolStats", "pools", "snapshot"]


def pools() -> list[ConnectionPool]:
    """The pools of this process that are not closed, by label."""
    return sorted((pool for pool in open_pools if not pool.is_closed), key=lambda pool: (pool.label, id(pool)))


def snapshot(pool: ConnectionPool) -> dict[str, Any]:
    """The numbers of `pool` as data that JSON can hold, with its label in place of its name."""
    now = pool.stats()
    numbers: dict[str, Any] = {"label": pool.label}
    for field in fields(now):
        value = getattr(now, field.name)
        if isinstance(value, Histogram):
            value = {"counts": list(value.counts), "sum": value.sum}
        elif isinstance(value, Mapping):
            value = dict(value)
        if field.name != "name":
            numbers[field.name] = value
    return numbers
