"""Tasks as borrowers: the token that identifies a task in the pool's reports.

Never: keeps a task alive.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from .._util import callsite

_tokens: weakref.WeakKeyDictionary[asyncio.Task[Any], callsite.Token] = weakref.WeakKeyDictionary()


def token_of_task() -> callsite.Token:
    """Return the current task's token. The loop's thread cannot be the borrower: it borrows for many tasks and outlives
    them. The token lives as long as the task, or as an `AsyncConnection` that the task borrowed."""
    task = asyncio.current_task()
    if task is None:
        return callsite.Token("task 'none'")
    token = _tokens.get(task)
    if token is None:
        token = _tokens[task] = callsite.Token(f"task {task.get_name()!r}")
    return token


def on_behalf_of(task: weakref.ref[callsite.Token], call: Callable[[], Any]) -> Any:
    """Run `call` in this thread, which the pool's reports show as `task` meanwhile."""
    thread, callsite.local.reference = callsite.local.reference, task
    try:
        return call()
    finally:
        callsite.local.reference = thread
