"""Which task code works for: that which has started the call in a thread, or that which awaits `wait_for`.

What starts a thread for a task leaves one of two things with both. asyncio, anyio and asgiref run the call in a copy of
the task's context, and the coroutine that the task awaits has this copy in a local variable. A thread of an executor
works for a future, and the task awaits what waits for that future; so in Quart, whose coroutine keeps no context.
A call that no task awaits, because it was started otherwise or its task was cancelled, has no task.

Never: runs code of a coroutine, keeps a context.
"""

from __future__ import annotations

import gc
import sys
from asyncio import AbstractEventLoop, Task
from asyncio import Future as Awaitable
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import Context, ContextVar
from functools import partial
from types import AsyncGeneratorType, CellType, CoroutineType, FunctionType, GeneratorType
from typing import Any
from weakref import ref

_probe: ContextVar[object] = ContextVar("pymysqlpool_probe")

_PATIENCE = 5.0  # seconds
_AWAITING = ("cr_await", "gi_yieldfrom", "ag_await")
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_STEPS = (CoroutineType, GeneratorType, AsyncGeneratorType)
_LINKS = (FunctionType, partial, CellType, tuple, list)  # to an executor's future, beside other futures


class Call:
    """A call in a thread, known by its context or by the future of its executor.

    Args:
        at_the_end: called when the call has ended, in any thread.
    """

    def __init__(self, known_by: Context | Future[Any], at_the_end: Callable[[], object]) -> None:
        self._future: Future[Any] | None = None
        self._context: ref[Context] | None = None
        if isinstance(known_by, Future):
            self._future = known_by
            known_by.add_done_callback(lambda _: at_the_end())
        else:
            self._context = ref(known_by, lambda _: at_the_end())

    def is_this(self) -> bool:
        """Return whether this code runs in the call itself, not in a copy of its context."""
        if self._context is None:
            return self._future is _future_of_this_thread()
        context, mark = self._context(), object()
        token = _probe.set(mark)
        try:
            return context is not None and context.get(_probe) is mark
        finally:
            _probe.reset(token)


_Found = tuple[Task[Any], Context | Future[Any]] | None


def find(
    loop: AbstractEventLoop, tasks: Callable[[], Iterable[Task[Any]]], concerns: Callable[[Context], bool]
) -> _Found:
    """Return the one of `tasks` that has started this thread's call, and what the call is known by.

    A call may run before its task awaits it. So where nothing is found, the loop looks again, between the tasks' steps.

    Args:
        concerns: whether a task with this context can be the one. (From Python 3.12 on a task tells its context.)
    """
    mark, future = object(), _future_of_this_thread()
    token = _probe.set(mark)

    def look() -> _Found:
        for task in tasks():
            its_context = getattr(task, "get_context", None)
            if its_context is None or concerns(its_context()):
                for thing in _things(task.get_coro()):
                    if type(thing) is Context and thing.get(_probe) is mark:
                        return task, thing
                    if future is not None and _is_future(thing) and _leads_to(future, thing):
                        return task, future
        return None

    try:
        return look() or _on(loop, look)
    finally:
        _probe.reset(token)


def caller(task: Task[Any], tasks: Callable[[], Iterable[Task[Any]]]) -> Task[Any]:
    """Return the task that `task` works for: that which awaits `wait_for`, where this has made `task` (Python 3.11)."""
    for each in gc.get_referents(task):
        if type(each) is partial and getattr(each.func, "__name__", "") == "_release_waiter":
            for other in tasks():
                if any(thing is each.args[0] for thing in _things(other.get_coro())):
                    return caller(other, tasks)
    return task


def _on(loop: AbstractEventLoop, look: Callable[[], _Found]) -> _Found:
    found: Future[_Found] = Future()
    try:
        loop.call_soon_threadsafe(lambda: found.set_result(look()))
        return found.result(_PATIENCE)
    except (RuntimeError, TimeoutError):  # the loop is closed, or waits for this thread
        return None


def _future_of_this_thread() -> Future[Any] | None:
    """The future that an executor's thread works for."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "concurrent.futures.thread":
            future = getattr(frame.f_locals.get("self"), "future", None)
            if isinstance(future, Future):  # from Python 3.14 on another `run` comes first
                return future
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _things(step: Any) -> Iterator[Any]:
    """What the local variables of a coroutine and of what it awaits refer to, and what is awaited at last."""
    while step is not None:
        frame = _first(step, _FRAMES)
        if frame is not None:
            yield from list(frame.f_locals.values())
        following = _first(step, _AWAITING)
        if following is not None and not isinstance(following, _STEPS):
            # An iterator of a coroutine, an async generator or a future names it to the garbage collector only.
            known = gc.get_referents(following)
            yield from known
            following = next((each for each in known if isinstance(each, _STEPS)), None)
        step = following


def _is_future(thing: Any) -> bool:
    return isinstance(thing, Awaitable) and not isinstance(thing, Task)


def _leads_to(future: Future[Any], thing: Any) -> bool:
    seen: set[int] = set()
    following = [thing]
    while following:
        for each in gc.get_referents(following.pop()):
            if each is future:
                return True
            if (isinstance(each, _LINKS) or _is_future(each)) and id(each) not in seen:
                seen.add(id(each))
                following.append(each)
    return False


def _first(step: Any, names: tuple[str, ...]) -> Any:
    return next((getattr(step, name) for name in names if hasattr(step, name)), None)
