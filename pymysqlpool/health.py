"""Can requests be served? For a load balancer that asks again and again, also when everything is busy.

Asking borrows nothing and waits for nobody: a connection that came home or was lent a moment ago answers at once, and
otherwise a session beside the pool, which ends again, asks the server within a timeout of its own. So a pool that is
exhausted but works is ready, a database that is down is not, and no request waits because of it.

Whether the process lives at all (liveness) is no question for the database: answer that without asking here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, runtime_checkable

from pymysql import err
from pymysql.constants import ER

from ._pool.core import session_beside
from ._pool.diagnostics import is_failing, last_used
from ._util.lock import new_lock
from .failures import number_of
from .pool import ConnectionPool
from .stats import PoolStats


@dataclass(frozen=True, slots=True)
class Health:
    """An answer, and the pool's numbers beside it."""

    ready: bool
    reason: str
    numbers: PoolStats

    @property
    def status(self) -> int:
        """For HTTP: 200 or 503."""
        return 200 if self.ready else 503

    def as_json(self) -> bytes:
        """Without the pool's name, which tells where the database is."""
        now = self.numbers
        shown = {"in_use": now.in_use, "idle": now.idle, "waiting": now.waiting, "maxsize": now.maxsize}
        return json.dumps({"ready": self.ready, "reason": self.reason, **shown}).encode()


@runtime_checkable
class _ManyHosts(Protocol):
    """A target of a cluster, which has no one server that could be asked."""

    @property
    def is_closed(self) -> bool: ...

    def stats(self) -> PoolStats: ...

    def why_unavailable(self, timeout: float) -> str: ...


class HealthCheck:
    """The health of one pool. Any number of threads may ask; one at a time asks the server.

    Args:
        pool: whose.
        timeout: seconds for the server's answer.
        recent: seconds for which a connection that was lent or given back, or an answer of the server, is proof.
    """

    def __init__(self, pool: ConnectionPool | _ManyHosts, *, timeout: float = 1.0, recent: float = 5.0) -> None:
        self.pool = pool
        self.timeout = timeout
        self.recent = recent
        self._lock = new_lock()  # held by the one who asks the server
        self._asked_at = float("-inf")  # monotonic; when the server last answered, or did not
        self._failure = ""  # why it was not ready then

    def __call__(self) -> Health:
        """The answer; within `timeout` seconds or little more, never after a wait for somebody's connection."""
        return self.look() or self.ask()

    def look(self) -> Health | None:
        """The answer if it is known without asking the server. Makes no round trip."""
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
        """Ask the server, over a session beside the pool's. Those who ask meanwhile get the same answer."""
        before = monotonic()
        with self._lock:
            if self._asked_at < before:
                self._failure = self._connect()
                self._asked_at = monotonic()
            failure = self._failure
        return Health(not failure, failure or "the server answers", self.pool.stats())

    def _connect(self) -> str:
        """Why it cannot be had, or ''."""
        if isinstance(self.pool, _ManyHosts):
            return self.pool.why_unavailable(self.timeout)
        try:
            session_beside(self.pool, monotonic() + self.timeout).close(quiet=True)
        except (err.MySQLError, OSError) as error:
            if number_of(error) == ER.CON_COUNT_ERROR and self.pool.connection_num:
                return ""  # the server lives and is full, with the pool's own connections among others
            return f"no session could be opened ({number_of(error) or type(error).__name__})"
        return ""
