"""Sums over pools and processes: the counters and histograms of a `snapshot`, which only grow.

Gauges (in use, idle, sizes ...) describe one pool at one moment. They end with the pool; counts stay.
Never: reads a pool, stores anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._pool.counters import numbers_in

GAUGES = frozenset(("size", "maxsize", "idle", "in_use", "connecting", "reserved", "closing", "waiting"))
COUNTERS = ("borrowed", "returned", "created", "reset", "timeouts", "rejected", "connect_errors", "leaked", "waits")
HISTOGRAMS = ("wait", "use", "create")
EVENTS_KEPT = 20  # of pools that have ended, for each label
_NO_COUNTS = GAUGES | {"label", "borrowers", "curve", "block"}


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
    for name in (one.keys() | two.keys()) - {"block"}:
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


def completed(content: dict[str, Any], blocks: dict[int, tuple[str, list[float]]]) -> dict[str, Any]:
    """Return what a process that has ended wrote last, with all that its pools had counted in `blocks`.

    A lease that was lent and not given back when the process ended is in no block. So `borrowed` is exact but for the
    leases that were out at the end, and for those that were given back unused since it wrote last.
    """
    numbers = {number: (label, numbers_in(cells)) for number, (label, cells) in blocks.items()}

    def up_to_date(pool: dict[str, Any]) -> dict[str, Any]:
        block = pool.get("block")
        _, later = numbers.pop(block if isinstance(block, int) else 0, ("", None))
        pool = {name: value for name, value in pool.items() if name != "block"}
        if later is None:
            return pool
        returned = pool["returned"] + sum(later["use"]["counts"]) - sum(pool["use"]["counts"])
        return pool | later | {"returned": returned, "borrowed": max(returned, pool["borrowed"])}

    pools, closed = ([up_to_date(pool) for pool in content.get(name, ())] for name in ("pools", "closed"))
    done = content.get("done")
    for number in done if isinstance(done, list) else ():
        numbers.pop(number if isinstance(number, int) else 0, None)
    for label, later in numbers.values():  # of pools that were made since
        used = sum(later["use"]["counts"])
        gone = {"label": label, "borrowers": [], "events": [], "returned": used, "borrowed": used}
        closed.append(gone | dict.fromkeys(GAUGES, 0) | later)
    return content | {"pools": pools, "closed": closed}
