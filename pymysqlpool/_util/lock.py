"""The lock that guards the books: an exception from outside never leaves it taken.

A signal handler (Celery's soft time limit, Ctrl-C) or `PyThreadState_SetAsyncExc` can raise at any point of a thread.
CPython promises that nothing is raised between taking a lock and entering its `with` block, so that it is given back.
CPython 3.14 breaks that promise (github.com/python/cpython/issues/148874, mended in 3.15): there, after `with lock:`
was struck, the lock can stay taken, and everybody waits for ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from operator import methodcaller
from types import TracebackType
from typing import Protocol


class Lock(Protocol):
    """What `new_lock` makes: taken by `with lock:`, by one thread at a time, not by the same one again."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...

    def locked(self) -> bool: ...


class StruckProofLock:
    """A `threading.Lock` that keeps the promise also in CPython 3.14.

    There the interpreter looks for exceptions from outside after every call of a C function, `__enter__` too, and when
    a Python function begins, but not when it returns. So `__enter__` is a Python function, and takes the lock without
    a call: by reading an attribute.
    """

    __slots__ = ("__exit__", "acquire", "locked", "release")

    __exit__: Callable[..., None]
    _taken = property(methodcaller("acquire"))

    def __init__(self) -> None:
        lock = threading.Lock()
        self.__exit__ = lock.__exit__
        self.acquire = lock.acquire
        self.release = lock.release
        self.locked = lock.locked

    def __enter__(self) -> object:
        return self._taken


def new_lock() -> Lock:
    return StruckProofLock() if sys.version_info[:2] == (3, 14) else threading.Lock()
