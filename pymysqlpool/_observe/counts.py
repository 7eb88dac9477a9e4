"""Sums over pools and processes: the counters and histograms of a `snapshot`, which only grow.

Gauges (in use, idle, sizes ...) describe one pool at one moment. They end with the pool; counts stay.
Never: reads a pool, stores anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

GAUGES = frozenset(("size", "maxsize", "idle", "in_use", "connecting", "reserved", "closing", "waiting"))
EVENTS_KEPT = 20  # of pools that have ended, for each label
_NO_COUNTS = GAUGES | {"label", "borrowers", "curve"}


def counts_of(pid: int, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return what stays of a pool of process `pid` that has ended: its counts and last events, no gauge."""
    kept = {name: value for name, value in numbers.items() if name not in _NO_COUNTS}
    kept["events"] = [{"pid": pid, **event} for event in numbers["events"]]
    return kept | {"label": numbers["label"], "borrowers": [], **dict.fromkeys(GAUGES, 0)}


def merged(several: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sums of `several`, which `counts_of` made, one for each label."""
    totals: dict[str, dict[str, Any]] = {}
    for counts in several:
        label = counts["label"]
        totals[label] = _sum(totals[label], counts) if label in totals else counts
    return list(totals.values())


def _sum(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in one.keys() | two.keys():
        a, b = one.get(name, 0), two.get(name, 0)
        if name == "events":
            total[name] = sorted([*a, *b], key=lambda event: float(event["at"]))[-EVENTS_KEPT:]
        elif isinstance(a, dict) and isinstance(b, dict):  # by reason, or a histogram
            total[name] = _sum(a, b)
        elif isinstance(a, list) and isinstance(b, list):  # the buckets of a histogram
            total[name] = [x + y for x, y in zip(a, b, strict=True)]
        else:
            total[name] = a if name == "label" else a + b
    return total
