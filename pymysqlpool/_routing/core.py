"""`ClusterCore`: the state of a cluster in one process, the lock that guards it, and the reports that change it.

Owns: the pools, the topology, the queues, and which pool may lend without a decision. Never: waits, asks a server,
decides which endpoint serves.

Invariants that live here: 4 (nothing slow under the lock), 13 (fork), 22 (news is exact).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from .._driver.role import Role
from .._util.lock import new_lock
from .._util.log import logger
from .._util.process import mark_process
from ..pool import ConnectionPool
from .endpoints import State, Target, described
from .queue import Queue
from .topology import Topology

SLICE = 0.25  # seconds that a caller waits at one endpoint before it checks whether another fits better


class ClusterCore:
    """The endpoints of one cluster, and what is known of them."""

    def __init__(self, name: str, new_topology: Callable[[], Topology], pools: Sequence[ConnectionPool]) -> None:
        self.name = name
        self.pools = pools
        self.closed: bool = False
        self._new_topology = new_topology
        self._enter_process()
        # The pool of the primary, while that is known and no caller waits for it: then a borrow needs no decision.
        # Assigned with _lock held; forgotten at any news, and after a while, so that a caller decides again.
        self.express: ConnectionPool | None = None
        self.express_until: float = 0.0  # monotonic

    def _enter_process(self) -> None:
        """Open the books of this process. In a forked child the parent's lock may be taken, and an endpoint be asked,
        by a thread that does not exist here; nothing has to run at the fork itself. `_here` is assigned last."""
        self._lock = new_lock()
        self._topology = self._new_topology()  # guarded by _lock, as are the queues
        self._queues: dict[Target, Queue] = {}
        self._here = mark_process()

    def _open_express(self, pool: ConnectionPool) -> None:
        """The pool has just served the primary's callers, and none waits: unless there was other news meanwhile."""
        primary = self._topology.primary
        if primary is not None and self.pools[primary] is pool and not self.closed:
            self.express = pool
            self.express_until = monotonic() + SLICE

    # -- news ----------------------------------------------------------------------------------------------

    def _tell_role(self, index: int, role: Role) -> None:
        with self._lock:
            endpoint = self._topology.endpoints[index]
            changed = endpoint.state is not State.UP or endpoint.writable != role.writable
            was = endpoint.writable
            self.express = None
            self._topology.answered(
                index, monotonic(), ready=role.ready, writable=role.writable, galera=role.galera, said=role.said
            )
            waiting = [ticket for queue in self._queues.values() for ticket in queue.all()]
        if changed:
            logger.info(
                "Cluster(%s): %s is up, %s",
                self.name,
                endpoint.name,
                role.said,
                extra={"event": "endpoint up", "cluster": self.name, "endpoint": endpoint.name, "role": role.said},
            )
            if was != role.writable:
                self.pools[index].drain()  # its sessions were opened while it had another role
        for ticket in waiting:
            ticket.call()

    def _tell_failed(self, index: int, error: BaseException) -> None:
        with self._lock:
            endpoint = self._topology.endpoints[index]
            was_down = endpoint.state is State.DOWN
            self.express = None
            self._topology.failed(index, monotonic(), str(error))
        if not was_down:
            logger.warning(
                "Cluster(%s): %s is down: %s",
                self.name,
                endpoint.name,
                error,
                extra={"event": "endpoint down", "cluster": self.name, "endpoint": endpoint.name},
            )

    # -- operator's requests, and state --------------------------------------------------------------------

    def take_out(self, index: int) -> None:
        with self._lock:
            self.express = None
            self._topology.drain(index, monotonic())
        self.pools[index].drain()

    def put_back(self, index: int) -> None:
        with self._lock:
            self._topology.undrain(index, monotonic())

    def known(self) -> list[tuple[str, str]]:
        """Return each endpoint's name, and its state in words."""
        with self._lock:
            return [(endpoint.name, described(endpoint)) for endpoint in self._topology.endpoints]

    def close(self) -> None:
        """Lend nothing more, and wake all waiting callers (Invariant 12)."""
        self.closed = True
        with self._lock:
            self.express = None
            waiting = [ticket for queue in self._queues.values() for ticket in queue.all()]
        for ticket in waiting:
            ticket.call()
