"""The hooks of what looks at pools from outside: an observer of borrows, and a call after each maintenance.

The observer is called at the end of a borrow that had to wait or connect; a borrow that is served at once never comes
here. Maintenance is done at a return, at most once a second, so a publisher of numbers that hears of it needs neither a
thread nor a fork hook. Owns: the two hooks. Never: changes a borrow.
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


after_maintenance: Callable[[], None] | None = None  # raises nothing, waits for nothing


def follow_maintenance(told: Callable[[], None]) -> None:
    """Call `told` after each maintenance from now on."""
    global after_maintenance
    after_maintenance = told
