"""Owns the counters and histograms of a pool, in one process. Never consulted for a decision.

Guarded by a lock of their own, so that a count can be added from anywhere: with the pool's lock held, without it, and
by code that runs inside either. The guarded section has no call in it, so nothing can run between reading a number and
adding to it. Only the use time is added without the lock, at each return: with a GIL no thread can interleave, without
one a count may be lost.

A histogram that is being filled is one row: the number of durations in each bucket, then, at `TOTAL`, their sum. Nearly
all leases are short, so the usual return asks only whether it belongs into the first bucket:

    bucket = 0 if held <= QUICK else bisect_left(BOUNDS, held)
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from time import time
from types import MappingProxyType

from .._util.lock import new_lock
from ..reuse import Reason
from ..stats import BOUNDS, Histogram, PoolEvent

CREATED = "created"
RESET = "reset"
TIMEOUTS = "timeouts"
REJECTED = "rejected"
CONNECT_ERRORS = "connect_errors"
LEAKED = "leaked"
WAITING_OUTSIDE = "waiting outside"
QUICK = BOUNDS[0]  # seconds
TOTAL = len(BOUNDS) + 1  # place of the sum in a row of durations
_REMEMBERED = 20  # events

Durations = list[float]


def no_durations() -> Durations:
    return [0] * TOTAL + [0.0]


def histogram(durations: Durations) -> Histogram:
    return Histogram(tuple(map(int, durations[:TOTAL])), durations[TOTAL])


class Counters:
    __slots__ = ("_discarded", "_lock", "_numbers", "create", "events", "use", "wait")

    def __init__(self) -> None:
        self._lock = new_lock()
        names = (CREATED, RESET, TIMEOUTS, REJECTED, CONNECT_ERRORS, LEAKED, WAITING_OUTSIDE)
        self._numbers: dict[str, float] = dict.fromkeys(names, 0)  # guarded by _lock
        self._discarded: dict[str, int] = {}  # by reason; guarded by _lock
        self.wait = no_durations()  # guarded by _lock
        self.create = no_durations()  # guarded by _lock
        self.events: deque[PoolEvent] = deque(maxlen=_REMEMBERED)  # the last ones; appended without the lock
        self.use = no_durations()  # see `checkin.give_back`

    def add(self, name: str, amount: float = 1) -> None:
        with self._lock:
            self._numbers[name] += amount

    def waited(self, seconds: float) -> None:
        place = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.wait[place] += 1
            self.wait[TOTAL] += seconds

    def created(self, seconds: float) -> None:
        place = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._numbers[CREATED] += 1
            self.create[place] += 1
            self.create[TOTAL] += seconds

    def discard(self, reason: Reason) -> None:
        name = reason.value
        self.happened("discard", name)
        with self._lock:
            if name not in self._discarded:
                self._discarded[name] = 0
            self._discarded[name] += 1

    def happened(self, kind: str, said: str) -> None:
        self.events.append(PoolEvent(time(), kind, said))

    def __getitem__(self, name: str) -> int:
        return int(self._numbers[name])

    def discarded(self) -> Mapping[str, int]:
        return MappingProxyType(self._discarded.copy())
