"""Every pool of this process. Owns: the list of them. Never: keeps one alive."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

_referred_to: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by id()


def register(pool: Any) -> None:
    _referred_to[id(pool)] = pool


def all_pools() -> list[Any]:
    """Return every ConnectionPool that is referred to, in one atomic step, whatever other threads make and drop
    meanwhile; iterating over a weak set would fail then."""
    return [pool for reference in _referred_to.valuerefs() if (pool := reference()) is not None]
