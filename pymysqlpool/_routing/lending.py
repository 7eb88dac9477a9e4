"""The execution of a cluster's decision: ask an endpoint for its role, borrow from one, or wait for the turn.

Owns: the pools of a cluster, its lock, the queues, and the reports to the topology. Uses public methods of the pools
only. Never: decides which endpoint serves, sends a statement of the user's.

Invariants that live here: 2 (order of arrival, over all endpoints), 4 (nothing slow under the lock), 14 (one deadline),
18 (never replay).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from pymysql import err

from .._driver.role import QUESTIONS, Role, read
from .._pool.checkout_request import Work
from .._pool.lease import Connection
from .._util.lock import new_lock
from .._util.log import logger
from .._util.process import mark_process
from ..errors import AmbiguousPrimary, PoolClosed, PoolTimeout, PoolUnavailable
from ..pool import ConnectionPool
from .endpoints import Ambiguous, Ask, State, Target, Use, described
from .following import has_commit
from .queue import Queue, Ticket
from .topology import Topology

_SLICE = 0.25  # seconds that a caller waits at one endpoint before it checks whether another fits better
_ASKING = 2.0  # seconds for an endpoint's answer about its role
_ASKING_BESIDE = 0.25  # the same, where another endpoint is up


@dataclass(frozen=True, slots=True)
class Borrow:
    """A step of a borrow: borrow from this endpoint's pool within a number of seconds. The caller sends the lease as
    the result, or throws the error into the generator."""

    endpoint: int
    pre_ping: bool | float
    timeout: float


Steps = Generator[float | Work | Borrow, Any, Connection]


class Lending:
    """The endpoints of one cluster, and the borrows from them."""

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

    def lend(self, target: Target, pre_ping: bool | float, timeout: float, after: str | None = None) -> Connection:
        """Borrow a connection to an endpoint that fits `target`, within `timeout` seconds; see `steps`."""
        ticket = Ticket()
        steps = self.steps(ticket, target, pre_ping, timeout, after)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Borrow):
                    pool = self.pools[step.endpoint]
                    try:
                        lease = pool.get_connection(pre_ping=step.pre_ping, timeout=step.timeout)
                    except (PoolTimeout, PoolUnavailable) as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(lease)
                else:
                    step = steps.send(step.call() if isinstance(step, Work) else ticket.wait(step))
        except StopIteration as end:
            served: Connection = end.value
            return served
        finally:
            steps.close()

    def steps(
        self, ticket: Ticket, target: Target, pre_ping: bool | float, timeout: float, after: str | None = None
    ) -> Steps:
        """The steps of a borrow, for threads and tasks: a float is a sleep of that many seconds, which ends early when
        `ticket` is called; `Work` runs where blocking is allowed.

        Args:
            after: the position of a commit that the server must have; one that does not have it soon is given back, and
                the primary is taken.
        """
        if not self._here[0]:
            self._enter_process()
        started = monotonic()
        while True:
            lease = yield from self._one(ticket, target, pre_ping, started, started + timeout)
            if after is None:
                return lease
            try:
                if (yield Work(partial(self._has_commit, lease, after, started + timeout))):
                    return lease
                yield Work(lease.close)
            except BaseException:
                if not lease.is_returned:
                    lease.invalidate()  # its return does no I/O then
                    lease.close()
                raise
            target = "primary"

    def _has_commit(self, lease: Connection, token: str, deadline: float) -> bool:
        endpoint = self._topology.endpoints[self.pools.index(lease.pool)]
        if endpoint.writable and not endpoint.galera:
            return True  # it is the primary
        return has_commit(lease, token, endpoint.galera, deadline)

    def _one(
        self, ticket: Ticket, target: Target, pre_ping: bool | float, started: float, deadline: float
    ) -> Generator[float | Work | Borrow, Any, Connection]:
        problem: BaseException | None = None
        served_by: ConnectionPool | None = None
        asked: int | None = None
        try:
            with self._lock:
                self.express = None
                queue = self._queues.setdefault(target, Queue())
                queue.join(ticket)
            while True:
                now = monotonic()
                if self.closed:
                    raise PoolClosed(f"can't get connection from cluster({self.name}): it is closed", pool=self.name)
                with self._lock:
                    decision = self._topology.decide(target, now, self._in_use)
                    if isinstance(decision, Ask):
                        asked = decision.endpoint
                        self._topology.asking(asked)
                    enters = isinstance(decision, Use) and queue.may_enter(ticket, self._room(decision))
                if isinstance(decision, Ask):
                    problem = (yield Work(partial(self._ask, decision.endpoint, deadline))) or problem
                    asked = None
                elif isinstance(decision, Ambiguous):
                    raise self._ambiguous(decision)
                elif now >= deadline:
                    raise self._too_late(target, now - started, problem) from problem
                elif enters:
                    assert isinstance(decision, Use)
                    lease, problem = yield from self._borrow(decision, target, pre_ping, deadline, problem)
                    if lease is not None:
                        served_by = lease.pool
                        return lease
                else:
                    until = deadline if isinstance(decision, Use) else min(deadline, decision.until)
                    yield max(0.0, min(_SLICE, until - now))
        finally:
            with self._lock:
                if asked is not None:
                    self._topology.not_asked(asked)
                queue = self._queues.setdefault(target, Queue())
                following = queue.leave(ticket)
                if served_by is not None and target == "primary" and not queue:
                    self._open_express(served_by)
            if following is not None:
                following.call()

    def _open_express(self, pool: ConnectionPool) -> None:
        """The pool has just served the primary's callers, and none waits: unless there was other news meanwhile."""
        primary = self._topology.primary
        if primary is not None and self.pools[primary] is pool and not self.closed:
            self.express = pool
            self.express_until = monotonic() + _SLICE

    def _borrow(
        self, decision: Use, target: Target, pre_ping: bool | float, deadline: float, problem: BaseException | None
    ) -> Generator[Borrow | Work, Any, tuple[Connection | None, BaseException | None]]:
        """Borrow from the first of the endpoints that lends at once; else wait for up to `_SLICE` at the best one."""
        for place, index in enumerate(decision.endpoints):
            pool = self.pools[index]
            alone = len(decision.endpoints) == 1
            if not alone and place + 1 < len(decision.endpoints) and not self._has_room(pool):
                continue
            left = deadline - monotonic()
            try:
                lease: Connection = yield Borrow(index, pre_ping, max(0.001, min(left, _SLICE)))
            except PoolTimeout as error:
                return None, error  # all its connections are lent; check whether another endpoint fits by now
            except PoolUnavailable as error:
                self._tell_failed(index, error)
                problem = error
                continue
            if self._fits(index, lease, target):
                return lease, None
            yield Work(lease.close)
        return None, problem

    def _fits(self, index: int, lease: Connection, target: Target) -> bool:
        """Whether the role that the session of `lease` reports is the one that the topology knows."""
        role = lease.server_role
        if role is None:
            return True
        with self._lock:
            endpoint = self._topology.endpoints[index]
            if role.writable == endpoint.writable:
                return True
            self.express = None
            self._topology.suspect(index, monotonic(), f"its role has changed: {role.said}")
        return False

    # -- news ----------------------------------------------------------------------------------------------

    def _ask(self, index: int, deadline: float) -> BaseException | None:
        """Ask an endpoint for its role; return the error, or None."""
        pool = self.pools[index]
        is_alone = not any(endpoint.state is State.UP for endpoint in self._topology.endpoints)
        longest = _ASKING if is_alone else _ASKING_BESIDE
        try:
            with pool.get_connection(timeout=max(0.001, min(longest, deadline - monotonic()))) as lease:
                role = _role_of(lease)
            self._tell_role(index, role)
        except (PoolTimeout, PoolClosed) as error:
            with self._lock:
                self._topology.not_asked(index)
            return error  # all its connections are lent: no news about the server
        except (err.MySQLError, OSError) as error:
            self._tell_failed(index, error)
            return error
        return None

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

    # -- what the decision needs to know -------------------------------------------------------------------

    def _in_use(self, index: int) -> int:
        pool = self.pools[index]
        return pool.connection_num - pool.size

    def _has_room(self, pool: ConnectionPool) -> bool:
        return bool(pool.size) or pool.connection_num < pool.stats().maxsize

    def _room(self, decision: Use) -> int:
        """The number of connections that the target's endpoints can still lend at this moment."""
        return sum(self.pools[index].stats().maxsize - self._in_use(index) for index in decision.endpoints)

    # -- errors --------------------------------------------------------------------------------------------

    def _ambiguous(self, decision: Ambiguous) -> AmbiguousPrimary:
        names = ", ".join(self._topology.endpoints[index].name for index in decision.endpoints)
        return AmbiguousPrimary(
            f"can't get connection from cluster({self.name}): {names} all say that they take writes, and only one may "
            f"be the primary. Make the others read-only (SET GLOBAL read_only = 1), or take them out of hosts=",
            pool=self.name,
        )

    def _too_late(self, target: Target, waited: float, problem: BaseException | None) -> PoolTimeout | PoolUnavailable:
        with self._lock:
            known = "; ".join(
                f"{endpoint.name} is {described(endpoint)}" + (f" ({endpoint.problem})" if endpoint.problem else "")
                for endpoint in self._topology.endpoints
            )
        kind = PoolTimeout if isinstance(problem, PoolTimeout) else PoolUnavailable
        return kind(
            f"can't get connection from cluster({self.name}) within {waited:.2f} s: no {target} lent one: {known}",
            pool=self.name,
            waited=waited,
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


def _role_of(lease: Connection) -> Role:
    results = []
    for question in QUESTIONS:
        with lease.cursor() as cursor:
            cursor.execute(question)
            results.append(cursor.fetchall())
    return read(results)
