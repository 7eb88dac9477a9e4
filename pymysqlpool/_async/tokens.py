"""Tasks as borrowers: the token that identifies a task in the pool's reports.

Never: keeps a task alive.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from .._util import callsite as _borrower

_tokens: weakref.WeakKeyDictionary[asyncio.Task[Any], _borrower.Token] = weakref.WeakKeyDictionary()


def token_of_task() -> _borrower.Token:
    """Return the current task's token. The loop's thread cannot be the borrower: it borrows for many tasks and outlives
    them. The token lives as long as the task, or as an `AsyncConnection` that the task borrowed."""
    task = asyncio.current_task()
    if task is None:
        return _borrower.Token("task 'none'")
    token = _tokens.get(task)
    if token is None:
        token = _tokens[task] = _borrower.Token(f"task {task.get_name()!r}")
    return token


def on_behalf_of(task: weakref.ref[_borrower.Token], call: Callable[[], Any]) -> Any:
    """Run `call` in this thread, which the pool's reports show as `task` meanwhile."""
    thread, _borrower.local.reference = _borrower.local.reference, task
    try:
        return call()
    finally:
        _borrower.local.reference = thread
