"""`ClusterCore`: the state of a cluster in one process, the lock that guards it, and the reports that change it.

An endpoint keeps its index for ever: one that was found and has left is drained, and its place is kept.

Owns: the pools, the topology, the queues, and which pools may lend without a decision. Never: waits, asks a server,
decides which endpoint serves.

Invariants that live here: 4 (nothing slow under the lock), 13 (fork), 22 (news is exact).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, get_args

from .._pool.cut import cut_lent
from .._pool.for_clusters import Express, Line
from .._util.lock import new_lock
from .._util.log import logger
from .._util.process import mark_process
from ..pool import ConnectionPool
from .asking import Asks
from .endpoints import FOREVER, Answer, Endpoint, State, Target, behind, described
from .hosts import Place, place
from .making import PoolMaker
from .members import Changes, Members
from .monitor import Monitor
from .queue import Queue, Ticket
from .topology import Topology

if TYPE_CHECKING:
    from .._util.lock import Lock
    from .._util.process import Mark

SLICE = 0.25  # seconds after which a decision is made again, by callers that wait at an endpoint as well


class ClusterCore:
    """The endpoints of one cluster, and what is known of them.

    Args:
        places: the hosts that the application has listed.
        new_pool: makes the pool of an endpoint.
        discovers: whether hosts that the others name are used, too.
    """

    def __init__(
        self,
        name: str,
        places: Sequence[Place],
        new_topology: Callable[[list[Endpoint]], Topology],
        new_pool: PoolMaker,
        asks: Asks,
        *,
        discovers: bool = False,
        check_interval: float | None = None,
    ) -> None:
        self.name = name
        self.closed: bool = False
        self.asks = asks
        self._discovers = discovers
        self._warned: set[int] = set()
        self._new_topology = new_topology
        self._new_pool = new_pool
        self._check_interval = check_interval
        self._records = [endpoint for _, _, endpoint in places]
        self.pools: list[ConnectionPool] = [new_pool(place, index, self) for index, place in enumerate(places)]
        # By target; with an express only while no caller waits for it
        self.lines: dict[Target, Line] = {target: Line() for target in get_args(Target)}
        self._entering: dict[int, Lock] = {}  # by process id: the first thread makes the state, the others wait for it
        self._here: Mark = (0,)
        self._enter_process()

    def _enter_process(self) -> None:
        """Make the state of this process. In a forked child the parent's lock may be taken, and an endpoint be asked,
        by a thread that does not exist here; nothing has to run at the fork itself."""
        with self._entering.setdefault(os.getpid(), new_lock()):
            if not self._here[0]:
                self._make_state()

    def _make_state(self) -> None:
        """`_here` is assigned last."""
        self._own_lock = new_lock()
        del self._records[len(self.pools) :]  # another thread was about to add one
        self._topology = self._new_topology([replace(record) for record in self._records])  # guarded by _lock,
        self._members = Members(self._topology.endpoints)
        self._queues: dict[Target, Queue] = {}  # and so are the queues
        self._end_expresses()
        self._monitors: dict[int, Monitor] | None = None  # started with the first borrow; guarded by _lock
        self._here = mark_process()

    @property
    def _lock(self) -> Lock:
        """The lock of this process: a forked child that comes for it makes its own state first, so that it neither
        waits for a thread of its parent nor changes what that thread left half done."""
        if not self._here[0]:
            self._enter_process()
        return self._own_lock

    def _open_express_locked(self, target: Target, fitting: tuple[int, ...]) -> None:
        """One of these endpoints has just served the target's callers, and none waits: unless there was other news
        meanwhile."""
        if not self.closed and all(self._topology.serves(index, target) for index in fitting):
            pools = [self.pools[index] for index in fitting]
            weights = None
            if self._topology.balance == "least-used":
                weights = [self._topology.endpoints[index].weight for index in fitting]
            choose = partial(self._topology.next_of, fitting, self._in_use)
            self.lines[target].express = Express(monotonic() + SLICE, pools, weights, choose)

    def _end_expresses(self) -> None:
        """There is news: the next borrow of each target decides."""
        for line in self.lines.values():
            line.express = None

    def _in_use(self, index: int) -> int:
        pool = self.pools[index]
        return pool.connection_num - pool.size

    def _queue_locked(self, target: Target) -> Queue:
        """The queue of a target, for a caller that joins it: those that come later decide in their order again."""
        self.lines[target].express = None
        return self._queues.setdefault(target, Queue())

    # -- news ----------------------------------------------------------------------------------------------

    def _tell(self, index: int, answer: Answer, asked_at: float | None = None) -> None:
        """The endpoint answered a caller; or the monitor, which asked it at `asked_at`."""
        with self._lock:
            endpoint = self._topology.endpoints[index]
            before, was_read = described(endpoint), self._topology.serves(index, "replica")
            was_writable = endpoint.writable if endpoint.told_at > -FOREVER else answer.writable
            changes = None
            if self._discovers and answer.ready:
                self._members.hears(index, answer)
            if asked_at is None:
                self._topology.answered(index, monotonic(), answer)
            else:
                self._topology.observed(index, asked_at, answer)
            if self._discovers and answer.ready:
                changes = self._members.changes()
                self._mark_locked(changes)
            now = described(endpoint)
            is_up = endpoint.state is State.UP
            is_read = self._topology.serves(index, "replica")  # it may be too far behind
            waiting = self._news_locked(now != before or is_read is not was_read or asked_at is None)
        if now != before:
            self._log(logging.INFO if is_up else logging.WARNING, endpoint, now, answer.said)
            if is_up and was_writable != answer.writable:
                self.pools[index].drain()  # its sessions were opened while it had another role
        if answer.missing is not None:
            self._warn_of_privilege(index, *answer.missing)
        if changes is not None:
            self._carry_out(changes)
        for ticket in waiting:
            ticket.call()

    def _mark_locked(self, changes: Changes) -> None:
        """Note at once which hosts have left, so that none is counted twice, and which are back."""
        now = monotonic()
        for index in changes.left:
            self._topology.endpoints[index].left = True
            self._topology.drain(index, now)
            if self._monitors is not None:
                self._monitors.pop(index, None)  # it ends with its next check
        for index in changes.back:
            self._topology.endpoints[index].left = False
            self._topology.undrain(index, now)

    def _carry_out(self, changes: Changes) -> None:
        """Drain the pools of those that have left, and make pools for those that are new."""
        for index in changes.left:
            self._log_member(self._topology.endpoints[index].name, is_found=False)
            self.pools[index].drain()
        for own, address in changes.new.items():
            self._add(own, address)
        if changes.new or changes.back:
            self._watch()

    def _add(self, own: str, address: str) -> None:
        found = place(address)
        record = replace(found[2], listed=False, answer=Answer(ready=False, own=own))
        index = len(self.pools)
        pool = self._new_pool(found, index, self)
        with self._lock:
            if self.closed or index != len(self.pools) or any(known.name == address for known in self._records):
                return  # another thread has added one; the next answer brings this up again
            self._records.append(record)
            self._topology.endpoints.append(endpoint := replace(record, ask_at=monotonic()))
            self.pools.append(pool)
        self._log_member(endpoint.name, is_found=True)

    def _warn_of_privilege(self, index: int, untold: str, privilege: str) -> None:
        """Once per host."""
        if index not in self._warned:
            self._warned.add(index)
            logger.warning(
                "Cluster(%s): %s does not tell %s. It would with GRANT %s TO the user of the pool",
                self.name,
                name := self._topology.endpoints[index].name,
                untold,
                privilege,
                extra={"event": "missing privilege", "cluster": self.name, "endpoint": name},
            )

    def _tell_failed(self, index: int, error: BaseException) -> None:
        with self._lock:
            endpoint = self._topology.endpoints[index]
            was_down = endpoint.state is State.DOWN
            self._end_expresses()
            self._topology.failed(index, monotonic(), str(error))
            waiting = self._news_locked(not was_down)
        if not was_down:
            self._log(logging.WARNING, endpoint, "down", error)
        for ticket in waiting:
            ticket.call()

    def refused_work(self, index: int) -> None:
        """A refused statement shows that the host is not the primary, or not ready: it is asked before another
        connection to it is lent. Told twice: when the refusal is read, and at the connection's return."""
        with self._lock:
            if self._topology.endpoints[index].writable:  # as far as is known
                self._suspect_locked(index, "it has refused a statement")

    def _suspect_locked(self, index: int, why: str) -> None:
        self._end_expresses()
        self._topology.suspect(index, monotonic(), why)

    def _news_locked(self, matters: bool) -> list[Ticket]:
        """Forget the decision that was made for later callers, and return those that wait, who are called."""
        if not matters:
            return []
        self._end_expresses()
        return [ticket for queue in self._queues.values() for ticket in queue.all()]

    def _log(self, level: int, endpoint: Endpoint, state: str, why: object) -> None:
        said = {
            "event": "endpoint up" if endpoint.state is State.UP else "endpoint down",
            "cluster": self.name,
            "endpoint": endpoint.name,
            "state": state,
            "role": str(why),
        }
        logger.log(level, "Cluster(%s): %s is %s: %s", self.name, endpoint.name, state, why, extra=said)

    def _log_member(self, name: str, is_found: bool) -> None:
        said = {"event": "endpoint found" if is_found else "endpoint left", "cluster": self.name, "endpoint": name}
        text = "is a member of the group, and is used too" if is_found else "is no member of the group any more"
        logger.info("Cluster(%s): %s %s", self.name, name, text, extra=said)

    # -- the monitor ---------------------------------------------------------------------------------------

    def _start_monitors(self) -> None:
        with self._lock:
            if self._monitors is not None:
                return
            self._monitors = {}
        self._watch()

    def _watch(self) -> None:
        """Start a monitor for each endpoint that has none."""
        fresh = []
        with self._lock:
            if self._check_interval is None or self._monitors is None or self.closed:
                return
            for index, endpoint in enumerate(self._topology.endpoints):
                if index not in self._monitors and not endpoint.left:
                    fresh.append(monitor := Monitor(self, index, self._check_interval))
                    self._monitors[index] = monitor
        for monitor in fresh:
            monitor.start()

    def is_watched(self, index: int, monitor: Monitor) -> bool:
        """Whether that monitor is to go on."""
        monitors = self._monitors
        return not self.closed and monitors is not None and monitors.get(index) is monitor

    def pool_of(self, index: int) -> ConnectionPool:
        return self.pools[index]

    def observed(self, index: int, asked_at: float, answer: Answer) -> None:
        """The host answered a check that began at `asked_at` (monotonic)."""
        self._tell(index, answer, asked_at)

    def missed(self, index: int, asked_at: float, error: BaseException, *, is_dead: bool) -> None:
        """The host did not pass a check that began at `asked_at` (monotonic). If it is dead, its statements end now."""
        with self._lock:
            endpoint = self._topology.endpoints[index]
            was_down = endpoint.state is State.DOWN
            is_out = self._topology.missed(index, asked_at, str(error))
            waiting = self._news_locked(is_out and not was_down)
        if is_out and not was_down:
            self._log(logging.WARNING, endpoint, "down", error)
        if is_out and is_dead:
            self.pools[index].drain()
            cut = cut_lent(self.pools[index])
            if cut:
                self._log(logging.WARNING, endpoint, "down", f"{cut} connections that waited for it were cut off")
        for ticket in waiting:
            ticket.call()

    # -- operator's requests, and state --------------------------------------------------------------------

    def take_out(self, index: int) -> None:
        with self._lock:
            self._end_expresses()
            self._topology.drain(index, monotonic())
        self.pools[index].drain()

    def put_back(self, index: int) -> None:
        with self._lock:
            self._topology.undrain(index, monotonic())

    def known(self) -> list[tuple[int, str, str]]:
        """Return each endpoint's index, its name, and its state in words; without those that have left."""
        with self._lock:
            return [
                (index, endpoint.name, described(endpoint) + behind(endpoint))
                for index, endpoint in enumerate(self._topology.endpoints)
                if not endpoint.left
            ]

    def close(self) -> None:
        """Lend nothing more, and wake all waiting callers (Invariant 12)."""
        self.closed = True
        with self._lock:
            waiting = self._news_locked(True)
            monitors = list((self._monitors or {}).values())
        for ticket in waiting:
            ticket.call()
        for monitor in monitors:
            monitor.stop()
