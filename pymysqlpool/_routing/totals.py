"""The numbers of several pools, added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import add

from ..stats import PoolStats


def added_up(name: str, parts: Sequence[PoolStats]) -> PoolStats:
    discarded: dict[str, int] = {}
    for part in parts:
        for reason, number in part.discarded.items():
            discarded[reason] = discarded.get(reason, 0) + number
    numbers = {
        field.name: reduce(add, (getattr(part, field.name) for part in parts))
        for field in fields(PoolStats)
        if field.name not in ("name", "discarded")
    }
    return PoolStats(name=name, discarded=discarded, **numbers)
