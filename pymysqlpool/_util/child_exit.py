"""Close connections in order when a child of multiprocessing ends.

Such a child ends with `os._exit()`: no atexit handler runs there, only the finalizers of `multiprocessing.util`.
Without a COM_QUIT the server counts an aborted client, and may log a warning, for each.

Owns: the registration of that finalizer. Never: closes a connection itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

_LAST = -1  # after finalizers that may still need a connection


@cache
def register(pid: int, callback: Callable[[], None]) -> None:
    """Call `callback` when this process, `pid`, ends, if it is a child of multiprocessing. Once per process."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, callback, exitpriority=_LAST)
