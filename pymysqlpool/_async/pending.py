"""`Pending`: what a task awaits while the reply to its statement is under way, or while it waits for a connection.

It does what an `asyncio.Future` would do here, in fewer steps, which every statement takes:

* a reply that arrives continues its task within the same callback of the loop; a future would pass through the loop's
  queue once more, and need another look at the selector;
* making it asks the loop nothing.

Asyncio's tasks await any object with these methods (`_asyncio_future_blocking` marks them; see
`asyncio.futures.isfuture`). One task awaits it, once.

Never: decides when its task goes on; see `clock`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from types import FunctionType
from typing import TYPE_CHECKING, Any


class Awaited:
    """The methods that asyncio's tasks ask for. Its subclasses have the attributes, in slots of their own."""

    if TYPE_CHECKING:
        _asyncio_future_blocking: bool
        _context: Context
        _error: BaseException | None
        _loop: asyncio.AbstractEventLoop
        callback: Callable[[Any], object] | None
        is_done: bool
        value: Any
    else:
        __slots__ = ()

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error
        value, self.value = self.value, None  # the session keeps this object, and must not keep the rows
        return value

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if self.is_done:
            self._loop.call_soon(callback, self, context=context)
            return
        self._context = copy_context() if context is None else context
        self.callback = callback

    def done(self) -> bool:
        return self.is_done

    def cancelled(self) -> bool:
        return type(self._error) is asyncio.CancelledError

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self.value

    @property
    def has_arrived(self) -> bool:
        """Whether the reply was read to its end."""
        return self.is_done and self._error is None

    def go_on(self) -> None:
        """Continue the task that awaits it, now."""
        callback = self.callback
        if callback is not None:
            self.callback = None  # a clock may keep this object for a while, and must not keep the task
            self._context.run(callback, self)

    def go_on_soon(self) -> None:
        """Continue the task that awaits it by way of the loop's queue."""
        callback, self.callback = self.callback, None
        if callback is not None:
            with suppress(RuntimeError):  # the loop is closed, so no task waits
                self._loop.call_soon(callback, self, context=self._context)

    def end_soon(self) -> None:
        self.is_done = True
        self.go_on_soon()

    def set_exception(self, error: BaseException) -> None:
        """Note that there will be no reply, and continue the task soon."""
        self._error = error
        self.end_soon()

    def cancel(self, msg: Any = None) -> bool:
        if self.is_done:
            return False
        self.set_exception(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True


def specialized(kind: type[Awaited]) -> type[Any]:
    """Give `kind` methods of its own, with the same text. Python makes the code of a method fast for objects of one
    class; shared by two classes that take turns, it stays slow for both."""
    for name, method in vars(Awaited).items():
        if isinstance(method, FunctionType) and name not in vars(kind):
            own = FunctionType(method.__code__.replace(), method.__globals__, name, method.__defaults__)
            own.__kwdefaults__ = method.__kwdefaults__
            setattr(kind, name, own)
    return kind


@specialized
class Pending(Awaited):
    __slots__ = ("_asyncio_future_blocking", "_context", "_error", "_loop", "callback", "is_done", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self.is_done = False
        self.value = None
        self._error = None
        self.callback = None
