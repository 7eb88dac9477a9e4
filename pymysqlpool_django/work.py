"""When does the work end for which a thread borrows? At Django's signal for a request; at its future for an executor.

Under WSGI the thread that borrows is the one that hears of the end of the request. Under ASGI it often is not: before
Django 6.2 error pages are rendered in a thread of a shared executor, and so runs whatever `sync_to_async(f,
thread_sensitive=False)`, `asyncio.to_thread(f)` and `executor.submit(f)` call. Such threads live on, and nothing ever
closes their connections. But the executor runs a piece of work as a `concurrent.futures` work item, whose future calls
back in the same thread as the last thing the item does; that is where the connection goes back.

Of `concurrent.futures` this uses one private name, the code of `_WorkItem.run`, to find the item that a thread is
running. Where there is no such name, connections stay until something closes them, as with Django's own backends.
"""

from __future__ import annotations

import concurrent.futures.thread
import threading
from concurrent.futures import Future
from enum import Enum
from inspect import currentframe
from types import CodeType, FrameType
from typing import Any

from django.core.signals import request_finished, request_started

_work_item: Any = getattr(concurrent.futures.thread, "_WorkItem", None)
_RUN: CodeType | None = getattr(getattr(_work_item, "run", None), "__code__", None)


class Request(Enum):
    """The kind of request that the calling thread will hear the end of."""

    NONE = "none"
    WSGI = "wsgi"
    ASGI = "asgi"


class _Here(threading.local):
    request = Request.NONE


_here = _Here()


def request() -> Request:
    """What this thread is serving. Under ASGI only the one thread in which Django runs a request's synchronous code."""
    return _here.request


def item() -> Future[Any] | None:
    """The future of the executor's work item that this thread is in; None in any other thread."""
    frame: FrameType | None = currentframe() if _RUN is not None else None
    while frame is not None:
        if frame.f_code is _RUN:
            future = getattr(frame.f_locals.get("self"), "future", None)
            return future if isinstance(future, Future) else None
        frame = frame.f_back
    return None


def _started(sender: Any, **kwargs: Any) -> None:
    _here.request = Request.WSGI if "environ" in kwargs else Request.ASGI


def _finished(sender: Any, **kwargs: Any) -> None:
    _here.request = Request.NONE


request_started.connect(_started, dispatch_uid="pymysqlpool_django.work")
request_finished.connect(_finished, dispatch_uid="pymysqlpool_django.work")
