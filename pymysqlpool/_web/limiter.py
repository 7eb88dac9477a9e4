"""anyio's limit of threads for sync code, which a thread that waits for a connection must not count against.

Never: needs anyio.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from weakref import WeakKeyDictionary, ref

_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
_latest: tuple[Any, Any] = (lambda: None, None)  # a weak reference to the loop that asked last, and its limiter


def limiter_of_threads(loop: asyncio.AbstractEventLoop) -> Any:
    """Return anyio's thread limiter if the application uses anyio: Starlette and FastAPI run sync code through it.

    anyio keeps one per event loop. It is looked up once per loop, because each look-up takes some microseconds.
    """
    global _latest
    known, limiter = _latest
    if known() is not loop:
        limiter = _limiters.get(loop)
        if limiter is None:
            if (anyio := sys.modules.get("anyio.to_thread")) is None:
                return None
            limiter = _limiters[loop] = anyio.current_default_thread_limiter()
        _latest = ref(loop), limiter
    return limiter


def add_threads(limiter: Any, more: int) -> None:
    limiter.total_tokens = max(1, limiter.total_tokens + more)
