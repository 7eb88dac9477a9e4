"""The monitor of a cluster: a thread per host that asks it for its role every `check_interval` seconds.

Each thread has a session of its own, outside its pool's count, and every step of a check ends within one interval. A
host that does not answer a check is dead: the cluster cuts the statements that wait for it. So a statement on a host
that froze ends within two intervals: one until the next check, one for the check.

Owns: the threads and their sessions. Never: decides which host serves, keeps a cluster alive that is no longer referred
to, is needed for anything but speed (Invariant 15).

Invariants that live here: 13 (a forked child starts threads of its own at its first borrow), 14 (one deadline).
"""

from __future__ import annotations

import threading
import weakref
from time import monotonic
from typing import Protocol

from pymysql import err

from .. import failures
from .._driver.wire import Wire
from .._pool.core import PoolCore
from .._pool.extra_session import extra_session
from .._pool.waiter import ThreadWaiter
from .asking import Asks, ask_server
from .endpoints import Answer

# Intervals; a check that ends later than this was held up by this process: it was stopped, its machine was, or another
# thread kept the GIL. That says nothing of the host, so it is asked once more.
_PAUSED = 1.25
_ALIVE = frozenset({failures.Server.FULL, failures.Server.REFUSES_US})  # no news: it has no session for the monitor


class Monitored(Protocol):
    """What the monitor tells and asks a cluster."""

    name: str
    asks: Asks

    def is_watched(self, index: int, monitor: Monitor) -> bool: ...

    def pool_of(self, index: int) -> PoolCore: ...

    def observed(self, index: int, asked_at: float, answer: Answer) -> None: ...

    def missed(self, index: int, asked_at: float, error: BaseException, *, is_dead: bool) -> None: ...


class Monitor(threading.Thread):
    """The checks of one host, until the host has left, or the cluster is closed or collected."""

    def __init__(self, cluster: Monitored, index: int, interval: float) -> None:
        super().__init__(name=f"pymysqlpool monitor {cluster.pool_of(index).endpoint}", daemon=True)
        self._cluster = weakref.ref(cluster)
        self._index = index
        self._interval = interval
        self._end = ThreadWaiter(None)
        self._wire: Wire | None = None

    def run(self) -> None:
        try:
            while True:
                began = monotonic()
                cluster = self._cluster()
                if cluster is None or not cluster.is_watched(self._index, self):
                    return
                self._check(cluster, began)
                del cluster
                if self._end.wait(began + self._interval - monotonic()):
                    return
        finally:
            self._drop(quiet=True)

    def stop(self) -> None:
        """End the thread. A check that is going on ends with its session, a login with the interval."""
        self._end.wake()
        if (wire := self._wire) is not None:
            wire.cut()

    def _check(self, cluster: Monitored, began: float, has_paused: bool = False) -> None:
        try:
            answer = self._ask(cluster, began + self._interval)
        except Exception as error:  # noqa: BLE001 - on_connect and callable credentials raise anything
            self._drop(quiet=False)
            now = monotonic()
            if not has_paused and now - began > _PAUSED * self._interval:
                self._check(cluster, now, has_paused=True)
                return
            says = failures.of_connect(error, had=self._interval).server
            if says not in _ALIVE:
                is_dead = says is not failures.Server.REFUSES_WORK
                cluster.missed(self._index, began, error, is_dead=is_dead)
        else:
            cluster.observed(self._index, began, answer)

    def _ask(self, cluster: Monitored, deadline: float) -> Answer:
        """Ask over the session that there is. If it was lost, which may concern it alone, ask over a new one."""
        if self._wire is not None:
            try:
                return self._say(self._wire, cluster, deadline)
            except (err.MySQLError, OSError):
                if monotonic() >= deadline:
                    raise
                self._drop(quiet=False)
        self._wire = extra_session(cluster.pool_of(self._index), deadline)
        return self._say(self._wire, cluster, deadline)

    @staticmethod
    def _say(wire: Wire, cluster: Monitored, deadline: float) -> Answer:
        handle = wire.borrow_privately()
        try:
            with handle.within(deadline):
                return ask_server(handle, cluster.asks)
        finally:
            wire.take_back(handle)

    def _drop(self, quiet: bool) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close(quiet)
