"""The pools of this process: the numbers of the open ones, and the counts of those that have ended.

A pool that was closed keeps its counts as long as there is a reference to it; when Python collects it, its finalizer
leaves them here. So the counts of a label only grow, from the first call of `follow` on. A forked child counts from
zero.

Never: takes a lock that a finalizer or a signal handler could wait for (Invariant 19), keeps a pool alive.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from .._pool import observed
from .._pool.registry import Entry, entries, entry_of
from ..metrics import snapshot
from .counts import counts_of, merged


class _Ended:
    """The counts of a pool whose finalizer has run. `place`: among the news, once they are in the sum."""

    __slots__ = ("counts", "place")

    def __init__(self, counts: dict[str, Any]) -> None:
        self.counts = counts
        self.place: int | None = None


class _Collected:
    """The counts of pools that were collected in this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._news: list[_Ended | None] = []  # of one pool each; None: in the sum
        self._sum: tuple[int, list[dict[str, Any]]] = 0, []  # how many of the news are in it, and by label
        self._adds_up = threading.Lock()  # never waited for

    def add(self, entry: Entry, pool: Any) -> None:
        ended = _Ended(counts_of(self.pid, look(pool)))
        self._news.append(ended)
        entry.ended = ended

    def by_label(self) -> tuple[list[dict[str, Any]], Callable[[Entry], bool]]:
        """Return the counts at this moment, and a function that tells whether those of a pool are among them."""
        while True:
            before = self._sum
            number, total = before
            news = [one for one in self._news[number:] if one is not None]
            if self._sum is before:  # else another thread may have put None in between
                break
        if news:
            total = merged([*total, *(one.counts for one in news)])
            if self._adds_up.acquire(blocking=False):
                try:
                    if self._sum is before:
                        for place, one in enumerate(news, number):
                            one.place = place
                        self._sum = number + len(news), total
                        self._news[number : number + len(news)] = [None] * len(news)
                finally:
                    self._adds_up.release()

        def has(entry: Entry) -> bool:
            its = entry.ended
            return its is not None and (its in news or (its.place is not None and its.place < number))

        return total, has


_known = _Collected()


def _collected() -> _Collected:
    global _known
    if _known.pid != os.getpid():
        _known = _Collected()
    return _known


def follow() -> None:
    """Keep the counts of pools that end from now on."""
    observed.follow_ends(_note_end)


def _note_end(pool: Any) -> None:
    with suppress(Exception):  # in a finalizer, where an error helps nothing
        if (entry := entry_of(pool)) is not None:
            _collected().add(entry, pool)


def look(pool: Any) -> dict[str, Any]:
    """Return the numbers of a pool, the holders of its connections, and its last events."""
    return snapshot(pool) | {
        "borrowers": [asdict(one) for one in pool.borrowers()],
        "events": [asdict(one) for one in pool.events()],
    }


def looks_and_ended() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `look` does for each open pool, and the counts of those that have ended: by label, but for those of
    pools that were closed and count in a block still."""
    pid, there = os.getpid(), entries()
    total, has = _collected().by_label()  # in this order: what ended before this is no longer `there`, or among them
    found, ended, closed = [], [*total], []
    for entry in there:
        if has(entry):
            continue
        pool = entry.pool()
        if pool is None:  # its finalizer is about to run
            if entry.seen is not None and entry.pid == pid:
                ended.append(entry.seen)
            continue
        numbers = look(pool)
        entry = entry_of(pool) or entry  # a child has a new one since the look
        block = {"block": entry.block} if entry.block else {}
        if not pool.is_closed:
            found.append(numbers | block)
        elif block:
            closed.append(counts_of(pid, numbers) | block)
        else:
            ended.append(counts_of(pid, numbers))
        entry.seen = counts_of(pid, numbers)
    found.sort(key=lambda numbers: str(numbers["label"]))
    return found, merged(ended) + closed


def counts() -> dict[str, dict[str, Any]]:
    """Return the counts of all pools, open or ended, by label."""
    pid = os.getpid()
    found, ended = looks_and_ended()
    return {one["label"]: one for one in merged([*ended, *(counts_of(pid, numbers) for numbers in found)])}
