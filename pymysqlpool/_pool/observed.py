"""The seam for traces of borrows: an observer that is told of each one that had to wait or connect, when it has ended.

Read at the end of such a borrow only; one that is served at once never comes here. Never: changes what a borrow does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Called in the borrower's thread or task with the pool, when the call began (monotonic), whether it connected, and the
# error that ended it.
Observer = Callable[[Any, float, bool, BaseException | None], None]

observer: Observer | None = None


def observe(told: Observer | None) -> None:
    """From now on `told` is told of such borrows; None: nothing is."""
    global observer
    observer = told
