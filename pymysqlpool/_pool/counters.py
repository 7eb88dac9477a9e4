"""Owns the counters and histograms of a pool, in one process. Never consulted for a decision.

Guarded by a lock of their own, so that a count can be added from anywhere: with the pool's lock held, without it, and
by code that runs inside either. The guarded section has no call in it, so nothing can run between reading a number and
adding to it. Only the use time is added without the lock, at each return: with a GIL no thread can interleave, without
one a count may be lost.

All numbers are in rows of cells. A row is a list, or where processes share their numbers, a view of a file's memory,
which outlives the process (`move_to`); the text that counts is the same for both. A row of durations has their number
in each bucket, then, at `TOTAL`, their sum. Nearly all leases are short, so the usual return asks first whether it
belongs into the first bucket, and loads the row after the last call, since it may be replaced during a call:

    bucket = 0 if held <= QUICK else bisect_left(BOUNDS, held)
    use = core._counters.use
    use[bucket] += 1.0
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping
from time import time
from types import MappingProxyType

from .._util.lock import new_lock
from ..reuse import Reason
from ..stats import BOUNDS, Histogram, PoolEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Row(Protocol):
        def __getitem__(self, place: int, /) -> float: ...

        def __setitem__(self, place: int, number: float, /) -> None: ...

        def __iter__(self) -> Iterator[float]: ...


_NAMES = ("created", "reset", "timeouts", "rejected", "connect_errors", "leaked", "waiting outside")
CREATED, RESET, TIMEOUTS, REJECTED, CONNECT_ERRORS, LEAKED, WAITING_OUTSIDE = range(len(_NAMES))
QUICK = BOUNDS[0]  # seconds
TOTAL = len(BOUNDS) + 1  # place of the sum in a row of durations
_REMEMBERED = 20  # events
_PLACE_OF = {reason: place for place, reason in enumerate(Reason)}
_WIDTHS = {"numbers": len(_NAMES), "discards": len(Reason), "wait": TOTAL + 1, "create": TOTAL + 1, "use": TOTAL + 1}
CELLS = sum(_WIDTHS.values())
#: Names what each cell means, so that a file of another version is not misread.
LAYOUT = ",".join([*_NAMES, *(reason.value for reason in Reason), *map(str, BOUNDS)])


def no_durations() -> list[float]:
    return [0.0] * (TOTAL + 1)


def histogram(durations: Row) -> Histogram:
    *counts, seconds = durations
    return Histogram(tuple(map(int, counts)), seconds)


class Counters:
    __slots__ = ("_lock", "create", "discards", "events", "numbers", "use", "wait")

    def __init__(self) -> None:
        self._lock = new_lock()
        self.numbers: Row = [0.0] * len(_NAMES)  # guarded by _lock
        self.discards: Row = [0.0] * len(Reason)  # by reason; guarded by _lock
        self.wait: Row = no_durations()  # guarded by _lock
        self.create: Row = no_durations()  # guarded by _lock
        self.use: Row = no_durations()  # see `checkin.give_back`
        self.events: deque[PoolEvent] = deque(maxlen=_REMEMBERED)  # the last ones; appended without the lock

    def add(self, name: int, amount: float = 1.0) -> None:
        with self._lock:
            self.numbers[name] += amount

    def waited(self, seconds: float) -> None:
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.wait[bucket] += 1.0
            self.wait[TOTAL] += seconds

    def created(self, seconds: float) -> None:
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.numbers[CREATED] += 1.0
            self.create[bucket] += 1.0
            self.create[TOTAL] += seconds

    def discard(self, reason: Reason) -> None:
        self.happened("discard", reason.value)
        place = _PLACE_OF[reason]
        with self._lock:
            self.discards[place] += 1.0

    def happened(self, kind: str, said: str) -> None:
        self.events.append(PoolEvent(time(), kind, said))

    def __getitem__(self, name: int) -> int:
        return int(self.numbers[name])

    def discarded(self) -> Mapping[str, int]:
        return MappingProxyType(_by_reason(self.discards))

    def move_to(self, cells: Any) -> None:
        """Count in `cells` from now on, `CELLS` of type "d"; None: in lists of this process's own.

        What another thread counts meanwhile is kept: after a row was replaced, no thread adds to the old one.
        """
        start = 0
        for name, width in _WIDTHS.items():
            old = getattr(self, name)
            new: Any = [0.0] * width if cells is None else cells[start : start + width]
            copied = list(old)
            for place, number in enumerate(copied):
                new[place] = number
            setattr(self, name, new)
            for place, (before, number) in enumerate(zip(copied, old, strict=True)):
                if number != before:
                    new[place] += number - before
            start += width


def numbers_in(cells: list[float]) -> dict[str, Any]:
    """Return what a pool has counted in `cells`, named as in `PoolStats`."""
    rows, start = {}, 0
    for name, width in _WIDTHS.items():
        rows[name] = cells[start : start + width]
        start += width
    counted: dict[str, Any] = {name: int(rows["numbers"][place]) for place, name in enumerate(_NAMES[:WAITING_OUTSIDE])}
    for name in ("wait", "create", "use"):
        durations = histogram(rows[name])
        counted[name] = {"counts": list(durations.counts), "sum": durations.sum}
    waits = histogram(rows["wait"])
    return counted | {"discarded": _by_reason(rows["discards"]), "waits": waits.count, "wait_time": waits.sum}


def _by_reason(discards: Row) -> dict[str, int]:
    return {reason.value: int(number) for reason, number in zip(Reason, discards, strict=True) if number}
