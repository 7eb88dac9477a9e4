"""Locks that no thread can wait for while it holds them itself, and that an exception from outside never leaves taken.

Owns: Invariant 19 (no lock waits for itself). Code can run inside a thread at nearly any bytecode: a finalizer that the
garbage collector calls, a signal handler, a weakref callback, an audit hook. When it runs while its own thread holds a
lock, to wait for that lock is to wait for ever.

* `new_lock()` is for short sections that may be entered again by such code: it lets its own thread pass.
* `StepLock` is for data that must not change in mid-step: a step that such code asks for is deferred until the current
  step ends.

**Exceptions from outside.** A signal handler (Celery's soft time limit, Ctrl-C) or `PyThreadState_SetAsyncExc` can
raise at any point of a thread. CPython promises that nothing is raised between taking a lock and entering its `with`
block, so that it is given back. CPython 3.14 breaks that promise (github.com/python/cpython/issues/148874, mended in
3.15): there, after an interrupted `with lock:`, the lock can stay taken. See `StruckProofLock`.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from threading import get_ident
from types import FrameType, TracebackType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class Lock(Protocol):
        """What `new_lock` makes: taken by `with lock:`."""

        def __enter__(self) -> object: ...

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
        ) -> None: ...

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

        def release(self) -> None: ...


_getframe = sys._getframe


class StruckProofLock:
    """A lock that keeps the promise also in CPython 3.14.

    There the interpreter looks for exceptions from outside after every call of a C function, `__enter__` too, and when
    a Python function begins, but not when it returns. So `__enter__` is a Python function, and takes the lock without
    a call: by reading an attribute.
    """

    __slots__ = ("__exit__", "acquire", "release")

    __exit__: Callable[..., None]
    _taken = property(methodcaller("acquire"))

    def __init__(self, lock: Any) -> None:
        self.__exit__ = lock.__exit__
        self.acquire = lock.acquire
        self.release = lock.release

    def __enter__(self) -> object:
        return self._taken


_BREAKS_THE_PROMISE = sys.version_info[:2] == (3, 14)


def _struck_proof_lock() -> Lock:
    return StruckProofLock(threading.RLock())


new_lock: Callable[[], Lock] = _struck_proof_lock if _BREAKS_THE_PROMISE else threading.RLock
"""Make a lock that its own thread may enter again. The guarded code must tolerate that between any two bytecodes."""


def _kept(lock: Any) -> Lock:
    return StruckProofLock(lock) if _BREAKS_THE_PROMISE else lock


class InsideOwnStepError(RuntimeError):
    """A step was asked for by code that runs inside a step of its own thread."""


class StepLock:
    """Runs one step at a time. No thread waits for a step of its own: what code inside a step asks for is deferred.

    Whether code runs inside a step is read from the call stack, and not noted anywhere: a note could be lost or left
    behind by an exception between two bytecodes, and it would belong to a thread where the stack belongs to a greenlet.
    The stack is read only when the lock is taken, which is rare.
    """

    __slots__ = ("_lock", "_section", "locked", "pending")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._section = _kept(self._lock)
        self.locked: Callable[[], bool] = self._lock.locked  # whether a step runs, of any thread
        self.pending: deque[tuple[int, Callable[[], object]]] = deque()  # put off, with the thread that asked

    def step(self, call: Callable[..., T], *args: Any) -> T:
        """Run `call(*args)` with the lock held, then the calls deferred meanwhile.

        Raises:
            InsideOwnStepError: this is code inside a step of its own thread. Ask `put_off` first.
        """
        if self.locked() and self._is_below(_getframe(1)):
            raise InsideOwnStepError("a step inside a step of the same thread")
        try:
            with self._section:
                result = call(*args)  # and not `return call(...)`: that would end the block before the call has ended
        finally:
            if self.pending:
                self.catch_up()
        return result

    def _is_below(self, frame: FrameType | None) -> bool:
        """Whether the code of `frame` runs inside a step of its own thread."""
        while frame is not None:
            if frame.f_code is _STEP and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def is_taken_here(self) -> bool:
        """Whether this code runs inside a step of its own thread; quick while no step runs."""
        return self.locked() and self._is_below(_getframe(1))

    def put_off(self, call: Callable[..., object], *args: Any) -> bool:
        """True when this is code inside a step of its own thread: then `call(*args)` runs when that step has ended."""
        if not self.locked() or not self._is_below(_getframe(1)):
            return False
        self.pending.append((get_ident(), partial(call, *args)))
        return True

    def catch_up(self, everything: bool = False) -> None:
        """Run the deferred calls of this thread; with `everything` those of all threads, because one may have been
        interrupted before it could."""
        me = get_ident()
        for _ in range(len(self.pending)):
            try:
                who, call = self.pending.popleft()
            except IndexError:
                return
            if who == me or everything:
                call()
            else:
                self.pending.append((who, call))


_STEP = StepLock.step.__code__
