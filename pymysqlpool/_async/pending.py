"""`PendingReply`: what a task awaits while the reply to its statement is under way.

It does what an `asyncio.Future` would do here, in fewer steps, which every statement takes:

* a reply that arrives continues its task within the same callback of the loop; a future would pass through the loop's
  queue once more, and need another look at the selector;
* making it asks the loop nothing.

Asyncio's tasks await any object with these methods (`_asyncio_future_blocking` marks them; see
`asyncio.futures.isfuture`). One task awaits it, once.

Never: continues a task inside another task's step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import Any


class PendingReply:
    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_is_done", "_loop", "_value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._is_done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callback: Callable[[Any], object] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._is_done:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error
        value, self._value = self._value, None  # the session keeps this object, and must not keep the rows
        return value

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if self._is_done:
            self._loop.call_soon(callback, self, context=context)
            return
        self._context = context or copy_context()
        self._callback = callback

    def done(self) -> bool:
        return self._is_done

    def cancelled(self) -> bool:
        return type(self._error) is asyncio.CancelledError

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def has_arrived(self) -> bool:
        """Whether the reply was read to its end."""
        return self._is_done and self._error is None

    def arrive(self, value: Any) -> None:
        """Note the reply and continue the task now. Called by the loop itself, never in a task's step."""
        self._value = value
        self._is_done = True
        if self._callback is not None:
            self._context.run(self._callback, self)

    def set_exception(self, error: BaseException) -> None:
        """Note that there will be no reply, and continue the task soon."""
        self._error = error
        self._is_done = True
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)

    def cancel(self, msg: Any = None) -> bool:
        if self._is_done:
            return False
        self.set_exception(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True
