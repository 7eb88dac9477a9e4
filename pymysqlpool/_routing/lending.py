"""The execution of a cluster's decision: ask an endpoint for its role, borrow from one, or wait for the turn.

Owns: the steps of a borrow. Uses public methods of the pools only. Never: decides which endpoint serves, sends a
statement of the user's.

Invariants that live here: 2 (order of arrival, over all endpoints), 4 (nothing slow under the lock), 14 (one deadline),
18 (never replay).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from pymysql import err

from .._pool.checkout_request import Work
from .._pool.diagnostics import count_call, waiting_outside
from .._pool.lease import Connection
from .._pool.observed import Call, part_of
from ..errors import AmbiguousPrimary, PoolClosed, PoolTimeout, PoolUnavailable, ReturnConnectionToPoolError
from ..pool import ConnectionPool
from .asking import ask_server
from .core import SLICE, ClusterCore
from .endpoints import Ambiguous, Ask, State, Target, Use, behind, described
from .following import has_commit
from .queue import Queue, Ticket

_ASKING = 2.0  # seconds for an endpoint's answer about its role
_ASKING_BESIDE = 0.25  # the same, where another endpoint is up


@dataclass(frozen=True, slots=True)
class Borrow:
    """A step of a borrow: borrow from this endpoint's pool within a number of seconds, as a part of `call`. The caller
    sends the lease as the result, or throws the error into the generator."""

    endpoint: int
    pre_ping: bool | float
    timeout: float
    call: Call


class HeldWork(Work):
    """Work for which a lease is held, and perhaps used: a caller that leaves must let it end before it ends the steps,
    which return the lease."""

    __slots__ = ()


Steps = Generator[float | Work | Borrow, Any, Connection]


class Lending(ClusterCore):
    """The borrows from the endpoints of one cluster."""

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
                        with part_of(step.call):
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
        `ticket` is called; `Work` runs where blocking is allowed, see also `HeldWork`.

        Args:
            after: the position of a commit that the server must have; one that does not have it soon is given back, and
                the primary is taken.
        """
        if not self._here[0] or self._monitors is None:
            self._start_monitors()  # in a forked child, too
        started = monotonic()
        while True:
            lease = yield from self._one(ticket, target, pre_ping, started, started + timeout)
            if after is None:
                return lease
            if (yield from _holding(lease, partial(self._has_commit, lease, after, started + timeout))):
                return lease
            yield from _holding(lease, lease.close)
            target = "primary"

    def _has_commit(self, lease: Connection, token: str, deadline: float) -> bool:
        index = self.pools.index(lease.pool)
        role = lease.server_role
        is_node = role is not None and role.galera
        with self._lock:
            is_primary = index == self._topology.primary  # and not one that only claims to be
            if is_primary and not self._topology.endpoints[index].answer.multi_primary:
                return True
        return has_commit(lease, token, is_node, deadline)

    def _one(
        self, ticket: Ticket, target: Target, pre_ping: bool | float, started: float, deadline: float
    ) -> Generator[float | Work | Borrow, Any, Connection]:
        problem: BaseException | None = None
        serves: tuple[int, ...] = ()
        asked: int | None = None
        call, last, ended = Call(), self.pools[0], None
        try:
            with self._lock:
                queue = self._queue_locked(target)
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
                    room = self._room(decision) if isinstance(decision, Use) else 0
                    enters = isinstance(decision, Use) and queue.may_enter(ticket, room)
                    beside = queue.beside(room) if enters else None
                if beside is not None:
                    beside.call()  # it needs not wait until this one is served, which takes a login perhaps
                if isinstance(decision, Ask):
                    last = self.pools[decision.endpoint]
                    problem = (yield Work(partial(self._ask, decision.endpoint, deadline, call))) or problem
                    asked = None
                elif isinstance(decision, Ambiguous):
                    raise self._ambiguous(decision)
                elif now >= deadline:
                    raise self._too_late(target, now - started, problem) from problem
                elif enters:
                    assert isinstance(decision, Use)
                    last = self.pools[decision.endpoints[0]]
                    lease, problem = yield from self._borrow(decision, target, pre_ping, deadline, problem, call)
                    if lease is not None:
                        serves, last = decision.endpoints, lease.pool
                        return lease
                else:
                    until = deadline if isinstance(decision, Use) else min(deadline, decision.until)
                    call.waited = True
                    last = self.pools[decision.endpoints[0]] if isinstance(decision, Use) else last
                    with waiting_outside(last):
                        yield max(0.0, min(SLICE, until - now))
        except BaseException as error:
            ended = error
            raise
        finally:
            count_call(last, call, started, ended)
            with self._lock:
                if asked is not None:
                    self._topology.not_asked(asked)
                queue = self._queues.setdefault(target, Queue())
                following = queue.leave(ticket)
                if serves and not queue:
                    self._open_express_locked(target, serves)
            if following is not None:
                following.call()

    def _borrow(
        self,
        decision: Use,
        target: Target,
        pre_ping: bool | float,
        deadline: float,
        problem: BaseException | None,
        call: Call,
    ) -> Generator[Borrow | Work, Any, tuple[Connection | None, BaseException | None]]:
        """Borrow from the first of the endpoints that lends at once; else wait for up to `SLICE` at the best one."""
        for place, index in enumerate(decision.endpoints):
            pool = self.pools[index]
            alone = len(decision.endpoints) == 1
            if not alone and place + 1 < len(decision.endpoints) and not self._has_room(pool):
                continue
            left = deadline - monotonic()
            try:
                lease: Connection = yield Borrow(index, pre_ping, max(0.001, min(left, SLICE)), call)
            except PoolTimeout as error:
                call.waited = True
                return None, error  # all its connections are lent; check whether another endpoint fits by now
            except PoolUnavailable as error:
                self._tell_failed(index, error)
                problem = error
                continue
            if self._fits(index, lease, target):
                return lease, None
            yield from _holding(lease, lease.close)
        return None, problem

    def _fits(self, index: int, lease: Connection, target: Target) -> bool:
        """Whether the session of `lease` reports the role that the topology knows, and the endpoint still serves the
        target: the borrow took time, and the decision for it may be void by now."""
        role = lease.server_role
        with self._lock:
            endpoint = self._topology.endpoints[index]
            if role is None or role.writable == endpoint.writable:
                return self._topology.serves(index, target)
            self._suspect_locked(index, f"its role has changed: {role.said}")
        return False

    # -- news ----------------------------------------------------------------------------------------------

    def _ask(self, index: int, deadline: float, call: Call) -> BaseException | None:
        """Ask an endpoint for its role; return the error, or None."""
        pool = self.pools[index]
        is_alone = not any(endpoint.state is State.UP for endpoint in self._topology.endpoints)
        longest = _ASKING if is_alone else _ASKING_BESIDE
        try:
            with part_of(call):
                lease = pool.get_connection(timeout=max(0.001, min(longest, deadline - monotonic())))
            with lease:
                answer = ask_server(lease, self.asks)
            self._tell(index, answer)
        except (PoolTimeout, PoolClosed) as error:
            with self._lock:
                self._topology.not_asked(index)
            return error  # all its connections are lent: no news about the server
        except (err.MySQLError, OSError) as error:
            self._tell_failed(index, error)
            return error
        return None

    # -- what the decision needs to know -------------------------------------------------------------------

    def _has_room(self, pool: ConnectionPool) -> bool:
        return bool(pool.size) or pool.connection_num < pool.maxsize

    def _room(self, decision: Use) -> int:
        """The number of connections that the target's endpoints can still lend at this moment."""
        return sum(self.pools[index].maxsize - self._in_use(index) for index in decision.endpoints)

    # -- errors --------------------------------------------------------------------------------------------

    def _ambiguous(self, decision: Ambiguous) -> AmbiguousPrimary:
        names = ", ".join(self._topology.endpoints[index].name for index in decision.endpoints)
        return AmbiguousPrimary(
            f"can't get connection from cluster({self.name}): {names} all say that they take writes, and only one may "
            "be the primary. Make the others read-only (SET GLOBAL read_only = 1), or take them out of hosts=; if it "
            "is one server under several names, list it once",
            pool=self.name,
        )

    def _too_late(self, target: Target, waited: float, problem: BaseException | None) -> PoolTimeout | PoolUnavailable:
        with self._lock:
            known = "; ".join(
                f"{endpoint.name} is {described(endpoint)}{behind(endpoint)}"
                + (f" ({endpoint.problem})" if endpoint.problem else "")
                for endpoint in self._topology.endpoints
                if not endpoint.left
            )
        kind = PoolTimeout if isinstance(problem, PoolTimeout) else PoolUnavailable
        host = target if target in ("primary", "replica") else "host"
        return kind(
            f"can't get connection from cluster({self.name}) within {waited:.2f} s: no {host} lent one: {known}",
            pool=self.name,
            waited=waited,
        )


def _holding(lease: Connection, call: Callable[[], Any]) -> Generator[Work, Any, Any]:
    """Have `call` done while `lease` is held. A caller that leaves returns the lease, unless the call has done so."""
    try:
        return (yield HeldWork(call))
    except BaseException:
        if not lease.is_returned:
            with suppress(ReturnConnectionToPoolError):
                lease.invalidate()  # its return does no I/O then
                lease.close()
        raise
