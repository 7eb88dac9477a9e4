"""A pool, or a cluster, that is pickled: its settings travel, and never a connection.

`multiprocessing.Pool().map(self.method)` pickles `self`, and with it a pool that is an attribute, once for each task.
All copies with one number are one pool in a process: the original where it was made and in forked children, a pool made
at the first arrival elsewhere. Each process has its own ledger, as always (Invariant 13).

Owns: the number of a pool that was pickled, and which pool it is here. Never: connects, sends `pre_create_num`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from .._util import late
from .._util.lock import new_lock
from ..settings import OPTION_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_lock = new_lock()
_here: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_made_here: list[Any] = []  # unpickled pools, kept alive: between two tasks nothing else may refer to one


class Travelling:
    """A pool's `__reduce__`. The password travels with it."""

    _number: str  # of a pool that was pickled

    def __reduce__(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import uuid  # here: few pools travel

        number = self.__dict__.setdefault("_number", uuid.uuid4().hex)
        with _lock:
            _here[number] = self
        return arrive, (number, type(self), {**self._options_to_travel(), "pre_create_num": 0})

    def _options_to_travel(self: Any) -> dict[str, Any]:
        own = {name: getattr(self.settings, name) for name in OPTION_NAMES}
        return {**own, **self._connect_args, "reuse_policy": self._policy}


def arrive(number: str, kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The pool of this number in this process."""
    late.load()  # not under the lock
    with _lock:
        pool = _here.get(number)
        if pool is None:
            pool = kind(**options)
            pool._number = number
            _here[number] = pool
            _made_here.append(pool)
        return pool
