"""Tasks as borrowers: what the pool's reports know a task by.

A borrower is known by a weak reference to a token that lives as long as it does. The token of a task is the task. The
loop's thread cannot be the borrower: it borrows for many tasks and outlives them.

Never: keeps a task alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .._util import callsite

task_of: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]
"""The current task of a running loop."""
try:
    from _asyncio import _current_tasks  # type: ignore[attr-defined]  # as `asyncio.current_task`, which is Python in 3.11

    task_of = _current_tasks.get
except ImportError:
    task_of = asyncio.current_task

Borrower = asyncio.Task[Any] | callsite.Token


def current_borrower(loop: asyncio.AbstractEventLoop | None = None) -> Borrower:
    """Return the current task of the running `loop`; a token that soon dies where no task runs."""
    return asyncio.current_task(loop) or callsite.Token("task 'none'")


def on_behalf_of(task: callsite.Reference, call: Callable[[], Any]) -> Any:
    """Run `call` in this thread, which the pool's reports show as `task` meanwhile."""
    thread, callsite.local.reference = callsite.local.reference, task
    try:
        return call()
    finally:
        callsite.local.reference = thread
