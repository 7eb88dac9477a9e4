"""A rate-limited log of requests that were answered 503 for lack of a connection: at most one line per second.

An overloaded application refuses thousands of requests per second, and one line for each would add to the load. The
first refusal is logged at once; the next line gives the number of refusals in between. The pool counts every refusal:
`rejected`, `timeouts` and `connect_errors` of `pool.stats()`.

Never: delays a line, confuses a busy pool with an unreachable server, updates the metrics.
"""

from __future__ import annotations

import logging
from time import monotonic

from ._util.lock import new_lock
from ._util.log import logger, one_line
from .errors import PoolUnavailable

__all__ = ["BUSY", "RefusalLog", "one_line"]

#: The text that a visitor reads.
BUSY = "The database is busy or out of reach at the moment. Please try again soon."
INTERVAL = 1.0  # seconds between two lines about the same pool


class RefusalLog:
    """The log lines about the refused requests of one application."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards the dict; never held while logging
        self._said: dict[tuple[str, bool], tuple[float, int]] = {}  # monotonic: the last line; refusals since

    def note(
        self,
        request: str,
        error: BaseException,
        *,
        log: logging.Logger = logger,
        level: int = logging.WARNING,
    ) -> None:
        """Log in `log` that `request` was answered 503 because of `error`, or count it for the next line."""
        request = one_line(request)  # `log` may be another package's logger
        about = getattr(error, "pool", ""), isinstance(error, PoolUnavailable)
        now = monotonic()
        with self._lock:
            last, untold = self._said.get(about, (None, 0))
            if last is not None and now - last < INTERVAL:
                self._said[about] = last, untold + 1
                return
            self._said[about] = now, 0
        said = {"event": "refused", "pool": about[0], "reason": type(error).__name__, "others": untold}
        if last is not None and untold:
            log.log(
                level,
                "%s was answered 503, and so were %d others in the %.1f s since the last line: %s",
                request,
                untold,
                now - last,
                error,
                extra=said,
            )
        else:
            log.log(level, "%s was answered 503: %s", request, error, extra=said)
