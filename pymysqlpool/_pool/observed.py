"""The hooks of what looks at pools from outside: an observer of borrows, a call after each maintenance, a call at
the refusals of one pool's server, and calls at the start and the end of a pool.

The observer is called at the end of a borrow that had to wait or connect; a borrow that is served at once never comes
here. Maintenance is done at a return, at most once a second, so a publisher of numbers that hears of it needs neither a
thread nor a fork hook. A cluster hears of the statements that the server of one of its pools refuses to execute.

Owns: the hooks. Never: changes a borrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Called in the borrower's thread or task with the pool, when the call began (monotonic), whether it connected, and
    # the error that ended it.
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


def follow_refusals(pool: Any, told: Callable[[], object]) -> None:
    """Call `told`, which raises nothing and waits for nothing, when a connection of `pool` shows that its server is not
    the one that takes writes: before the connection is closed, and before another one is made or lent in its place."""
    pool._tell_of_refusal = told


def unheard() -> None:
    """What a pool calls of whose refusals nothing is to be told."""


at_start: Callable[[Any], None] | None = None  # raises nothing, waits for nothing


def follow_starts(told: Callable[[Any], None]) -> None:
    """Call `told` with the `registry.Entry` of each pool that is made from now on, or used first in a forked child."""
    global at_start
    at_start = told


at_end: Callable[[Any], None] | None = None  # runs in a finalizer; raises nothing, waits for nothing


def follow_ends(told: Callable[[Any], None]) -> None:
    """Call `told` with each pool that is collected from now on."""
    global at_end
    at_end = told


class Call:
    """A call that borrows in parts, as a cluster's does, which looks for a better host each quarter of a second. It is
    counted once, when it has ended (`diagnostics.count_call`); its parts only note what they did.

    Attributes:
        waited: whether a part had to wait.
        connected: whether a part connected.
    """

    __slots__ = ("connected", "waited")

    def __init__(self) -> None:
        self.waited = self.connected = False


call: ContextVar[Call | None] = ContextVar("call", default=None)  # that the present borrow is a part of


@contextmanager
def part_of(whole: Call) -> Iterator[None]:
    """A borrow inside of this block is a part of `whole`."""
    call.set(whole)
    try:
        yield
    finally:
        call.set(None)  # no reset: a coroutine may be collected in another context
