"""The work for which a thread borrows: what it serves, and the future of an executor's work item.

Under WSGI Django closes a request's connections in the thread that borrowed them. Under ASGI often not: before Django
6.2 error pages are rendered in a thread of a shared executor, and `sync_to_async(f, thread_sensitive=False)`,
`asyncio.to_thread(f)` and `executor.submit(f)` run in such threads too. These threads live on, and nothing closes their
connections. But an executor runs a `concurrent.futures` work item, and its future calls back in the same thread, as the
last step of the item; there the connection is given back.

This uses one private name of `concurrent.futures`, the code of `_WorkItem.run`, to find the item that a thread runs.
Without that name connections stay until something closes them, as with Django's own backends.

Never: gives a connection back; the wrapper does.
"""

from __future__ import annotations

import concurrent.futures.thread
import threading
import weakref
from concurrent.futures import Future
from enum import Enum
from inspect import currentframe
from types import CodeType, FrameType
from typing import Any, Protocol

_work_item: Any = getattr(concurrent.futures.thread, "_WorkItem", None)
_RUN: CodeType | None = getattr(getattr(_work_item, "run", None), "__code__", None)


class Request(Enum):
    """The kind of request whose end Django signals in the calling thread."""

    NONE = "none"
    WSGI = "wsgi"
    ASGI = "asgi"


class _Here(threading.local):
    """
    Attributes:
        request: what this thread serves, as `writes` is told by Django's signals. Under ASGI that is only the thread of
            the request's synchronous code.
    """

    request: Request = Request.NONE


here: _Here = _Here()


class Worker(Protocol):
    def work_ended(self) -> None: ...


def item() -> Future[Any] | None:
    """Return the future of the executor's work item that this thread runs; None in other threads."""
    frame: FrameType | None = currentframe() if _RUN is not None else None
    while frame is not None:
        if frame.f_code is _RUN:
            future = getattr(frame.f_locals.get("self"), "future", None)
            return future if isinstance(future, Future) else None
        frame = frame.f_back
    return None


def at_the_end(item: Future[Any], worker: Worker) -> None:
    """Let `worker.work_ended()` be called at the end of `item`, in its thread, if `worker` still exists then."""
    reference = weakref.ref(worker)

    def ended(item: object) -> None:
        if (its := reference()) is not None:
            its.work_ended()

    item.add_done_callback(ended)
