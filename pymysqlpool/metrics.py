"""The pools of this process and their numbers as plain data, for exporters.

Never: sends or stores numbers, shows a secret (`label` holds neither a user nor a path; Invariant 16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ._pool.registry import all_pools
from .pool import ConnectionPool
from .stats import BOUNDS, Histogram, PoolStats

__all__ = ["BOUNDS", "Histogram", "PoolStats", "pools", "snapshot"]


def pools() -> list[ConnectionPool]:
    """Return the open pools of this process, by label."""
    return sorted((pool for pool in all_pools() if not pool.is_closed), key=lambda pool: (pool.label, id(pool)))


def snapshot(pool: ConnectionPool) -> dict[str, Any]:
    """Return the numbers of `pool` as JSON-compatible data, with the label in place of the name."""
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
