"""Readiness: whether requests can be served. For load balancers, which ask frequently, also under full load.

A check borrows no connection and never waits for a borrower. If a connection was returned or lent a moment ago, the
check answers at once. Otherwise a short-lived session outside the pool asks the server, with a timeout of its own. An
exhausted pool that works is therefore ready, a database that is down is not, and no request waits for a check.

Liveness (whether the process runs) does not depend on the database: answer it without this check.

Never: borrows a connection, shows the database's address over HTTP.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, runtime_checkable

from pymysql import err
from pymysql.constants import ER

from ._pool.diagnostics import is_failing, last_used
from ._pool.extra_session import extra_session
from ._util.lock import new_lock
from .failures import number_of
from .pool import ConnectionPool
from .stats import PoolStats


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a check.

    Attributes:
        ready: whether requests can be served.
        reason: why not; or how it is known.
        numbers: the pool's numbers.
    """

    ready: bool
    reason: str
    numbers: PoolStats

    @property
    def status(self) -> int:
        """The HTTP status: 200 or 503."""
        return 200 if self.ready else 503

    def as_json(self) -> bytes:
        """The result as a JSON object, without the pool's name, which would show where the database is."""
        now = self.numbers
        shown = {"in_use": now.in_use, "idle": now.idle, "waiting": now.waiting, "maxsize": now.maxsize}
        return json.dumps({"ready": self.ready, "reason": self.reason, **shown}).encode()


@runtime_checkable
class _ManyHosts(Protocol):
    """A target of a cluster: it checks its hosts itself, as it has no single server to ask."""

    @property
    def is_closed(self) -> bool: ...

    def stats(self) -> PoolStats: ...

    def why_unavailable(self, timeout: float) -> str: ...


class HealthCheck:
    """The health check of one pool. Thread-safe; one thread at a time asks the server.

    Args:
        pool: the pool to check.
        timeout: seconds for the server's answer.
        recent: seconds for which a checkout, a return or an answer of the server counts as proof.
    """

    def __init__(self, pool: ConnectionPool | _ManyHosts, *, timeout: float = 1.0, recent: float = 5.0) -> None:
        self.pool = pool
        self.timeout = timeout
        self.recent = recent
        self._lock = new_lock()  # held by the thread that asks the server
        self._asked_at = float("-inf")  # monotonic time of the server's last answer or failure
        self._failure = ""  # the reason of that failure; '': it answered

    def __call__(self) -> Health:
        """Check the pool, within `timeout` seconds or little more. Never waits for a lent connection."""
        return self.look() or self.ask()

    def look(self) -> Health | None:
        """Return the result if it is known without asking the server, else None. Makes no round trip."""
        pool, now = self.pool, monotonic()
        numbers = pool.stats()
        if isinstance(pool, _ManyHosts):
            fresh = now - self._asked_at < (self.timeout if self._failure else self.recent)
            said = self._failure or "a host answered a moment ago"
            return Health(not self._failure, said, numbers) if fresh else None
        used, failing = last_used(pool), is_failing(pool)
        if pool.is_closed:
            return Health(False, "the pool is closed", numbers)
        if used is not None and not failing and now - used < self.recent:
            return Health(True, "a connection was used a moment ago", numbers)
        if self._failure and now - self._asked_at < self.timeout:
            return Health(False, self._failure, numbers)
        if not self._failure and now - self._asked_at < self.recent and not failing:
            return Health(True, "the server answered a moment ago", numbers)
        return None

    def ask(self) -> Health:
        """Ask the server, over a session outside the pool. Concurrent callers get the same result."""
        before = monotonic()
        with self._lock:
            if self._asked_at < before:
                self._failure = self._connect()
                self._asked_at = monotonic()
            failure = self._failure
        return Health(not failure, failure or "the server answers", self.pool.stats())

    def _connect(self) -> str:
        """Open a session; return the reason if that fails, or ''."""
        if isinstance(self.pool, _ManyHosts):
            return self.pool.why_unavailable(self.timeout)
        try:
            extra_session(self.pool, monotonic() + self.timeout).close(quiet=True)
        except (err.MySQLError, OSError) as error:
            if number_of(error) == ER.CON_COUNT_ERROR and self.pool.connection_num:
                return ""  # the server works; all its connections are in use, the pool's own among them
            return f"no session could be opened ({number_of(error) or type(error).__name__})"
        return ""
