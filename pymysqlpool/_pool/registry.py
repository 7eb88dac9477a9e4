"""Every pool of this process. Owns: the list of them. Never: keeps one alive.

A pool in a circle of references is out of reach some time before its finalizer runs. Its entry stays until then, so
that what looks at all pools in between does not miss what it has counted.
"""

from __future__ import annotations

import os
import weakref

from . import observed
from .counters import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Entry:
    """A pool in the list.

    Attributes:
        pool: a weak reference.
        counters: its own in the process `pid`.
        seen: the counts that were seen last, for the time between its end and its finalizer.
        ended: the counts at its end, once its finalizer has run.
        block: the number of the block of a file in which it counts; 0: it counts in lists.
    """

    __slots__ = ("block", "counters", "ended", "pid", "pool", "seen")

    def __init__(self, pool: Any, counters: Counters) -> None:
        self.pool = weakref.ref(pool)
        self.counters = counters
        self.pid = os.getpid()
        self.seen: dict[str, Any] | None = None
        self.ended: Any = None
        self.block = 0


_entries: dict[int, Entry] = {}  # by id()


def register(pool: Any, counters: Counters) -> None:
    """Add `pool`; in a forked child again, with its new `counters`."""
    entry = _entries[id(pool)] = Entry(pool, counters)
    if observed.at_start is not None:
        observed.at_start(entry)


def entry_of(pool: Any) -> Entry | None:
    return _entries.get(id(pool))


def forget(pool: Any) -> None:
    """Its finalizer has run."""
    _entries.pop(id(pool), None)


def entries() -> list[Entry]:
    """Return all, whatever other threads and finalizers make and drop meanwhile."""
    return list(_entries.copy().values())  # copying is one atomic step


def all_pools() -> list[Any]:
    """Return every ConnectionPool that is referred to."""
    return [pool for entry in entries() if (pool := entry.pool()) is not None]
