"""The hook for traces of borrows: an observer is called at the end of each borrow that had to wait or connect.

It is read at the end of such a borrow only; a borrow that is served at once never comes here. Owns: the observer of
borrows. Never: changes a borrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Called in the borrower's thread or task with the pool, when the call began (monotonic), whether it connected, and the
# error that ended it.
Observer = Callable[[Any, float, bool, BaseException | None], None]

observer: Observer | None = None


def observe(told: Observer | None) -> None:
    """Call `told` for such borrows from now on; None: call nothing."""
    global observer
    observer = told
