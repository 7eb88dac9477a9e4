"""What one call of `get_connection` wants and until when, and what a borrow asks of the loop that drives it.

Owns: the deadlines of a borrow, computed once (Invariant 14: one deadline for waiting, connecting, checking). Never:
waits.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from .._util import callsite
from .._util.log import DEBUG, logger
from ..settings import patience, seconds
from . import observed
from .asking import SHORTEST_CHECK
from .core import CONNECT_TIMEOUT, NEVER, PoolCore


class Work:
    """A call that may block. `interrupt` ends it early; `awaited`: the borrow goes on when it is done."""

    __slots__ = ("awaited", "call", "interrupt")

    def __init__(
        self, call: Callable[[], Any], interrupt: Callable[[], object] | None = None, *, awaited: bool = True
    ) -> None:
        self.call = call
        self.interrupt = interrupt
        self.awaited = awaited


class CheckoutRequest:
    """What one call of `get_connection` wants, until when, and on whose behalf."""

    __slots__ = (
        "asks_role_after",
        "borrower",
        "call",
        "checks_until",
        "deadline",
        "give_up_at",
        "grow_at",
        "last_error",
        "next_retry",
        "offset",
        "place",
        "pre_ping",
        "queued",
        "refusal",
        "retry_interval",
        "started",
    )

    def __init__(
        self,
        core: PoolCore,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        borrower: Any,
        place: Any,
        offset: int = 0,
    ) -> None:
        own = core._settings
        if timeout is None:
            timeout = own.timeout
        else:
            seconds("timeout", timeout, None)
        longest_wait = patience(retry_num, retry_interval)
        if pre_ping and not isinstance(pre_ping, bool):
            seconds("pre_ping", pre_ping, 0.001)
        self.started = monotonic()
        self.retry_interval = retry_interval
        if timeout is None:
            # pymysql-pool's rule: wait for that long, then make a new connection if maxsize allows.
            self.grow_at = self.give_up_at = self.started + longest_wait
            self.deadline = self.started + longest_wait + core._connect_args.get("connect_timeout", CONNECT_TIMEOUT)
        else:
            # The same, but the timeout bounds the new connection too, so half of it is left for that.
            self.grow_at = self.started + min(longest_wait, timeout / 2)
            self.give_up_at = self.deadline = self.started + timeout
        core._verbose = logger.isEnabledFor(DEBUG)
        self.next_retry = self.started if core._verbose else NEVER  # when to log that the call is waiting
        self.checks_until = max(self.deadline, self.started + SHORTEST_CHECK)
        self.call = observed.call.get()
        self.queued = 0.0  # seconds, before this request was made
        self.last_error: BaseException | None = None
        # the server's error for every caller while it refuses the pool's login
        self.refusal: BaseException | None = None
        self.pre_ping: bool | float = pre_ping or own.pre_ping
        self.asks_role_after = core._asks_role_after
        self.borrower = borrower  # the thread or task, as in `Slot.user`
        self.place = callsite.stack() if own.record_stacks else place  # the call site, as in `Slot.place`
        self.offset = offset

    def began_before(self, seconds: float) -> None:
        """How long the call has waited, in seconds."""
        self.queued = seconds
        self.started -= seconds
        self.grow_at -= seconds
        self.give_up_at -= seconds
        self.deadline -= seconds
        self.checks_until = max(self.deadline, self.started + SHORTEST_CHECK)

    def what_ended_it(self, error: BaseException | None) -> BaseException | None:
        """`error` left the borrow; GeneratorExit: the step that was asked for failed, or the caller was interrupted."""
        return self.last_error or error if isinstance(error, GeneratorExit) else error

    def wants_ping(self, idle_for: float) -> bool:
        ping = self.pre_ping
        return ping if isinstance(ping, bool) else idle_for > ping
