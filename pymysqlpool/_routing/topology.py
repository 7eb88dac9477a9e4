"""`Topology`: the state of a cluster's endpoints, and the decision which of them serves the next borrow.

Pure: no I/O, no lock, no clock and no randomness of its own. The cluster calls every method with its lock held, passes
the time, and executes the decision of `decide`: lend from an endpoint, ask one for its role, wait, or fail.

**One primary.** Exactly one server may take writes. A server becomes the primary only after every other endpoint has
been asked since the last primary was lost, and none of them claims to be primary too. Two claims are an error
(`Ambiguous`), never a choice. In a group with many primaries (Galera) every ready node takes writes: the first in the
given order is the primary, until it is lost, or until a node before it has been well for `failback_after` seconds.
Nodes that do not belong to one such group are two claims.

Never: trusts an answer older than the last change, uses a replica as the primary, lets two callers ask one endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from .endpoints import (
    FOREVER,
    Ambiguous,
    Answer,
    Ask,
    Balance,
    Decision,
    Endpoint,
    State,
    Target,
    Use,
    Wait,
    agree,
    spread,
)

FIRST_DELAY = 0.05  # seconds until an endpoint that could not be reached is asked again
LONGEST_DELAY = 1.0  # seconds
LONGEST_UNREACHED = 30.0  # seconds, for one that was found, and could not be reached yet: perhaps never
_UNKNOWN = frozenset({State.SUSPECT, State.DOWN})


class Topology:
    """The endpoints of one cluster.

    Args:
        endpoints: the hosts, in order of preference.
        balance: how readers are spread over the hosts.
        zone: the zone of this process.
        max_lag: seconds; a replica that is known to be further behind is not used. None: no bound.
        failback_after: seconds for which a preferred Galera node must have been well before it becomes primary again.
        random: returns a number from 0 to 1.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        random: Callable[[], float],
        balance: Balance = "least-used",
        zone: str = "",
        max_lag: float | None = None,
        failback_after: float = 30.0,
    ) -> None:
        self.endpoints = list(endpoints)
        self.primary: int | None = None
        self.balance: Balance = balance
        self._zone = zone
        self._max_lag = max_lag
        self._failback_after = failback_after
        self._random = random
        self._since = 0.0  # monotonic; older answers do not count in the election of a primary

    # -- news ----------------------------------------------------------------------------------------------

    def answered(self, index: int, now: float, answer: Answer) -> None:
        """Note that the endpoint answered the caller that asked it."""
        self.endpoints[index].asked = False
        self._heard(index, now, answer)

    def observed(self, index: int, asked_at: float, answer: Answer) -> bool:
        """Note what the endpoint answered the monitor, which asked it at `asked_at`.

        Returns:
            Whether it counts: newer news is not overruled by an older answer.
        """
        if self._is_old(index, asked_at):
            return False
        self._heard(index, asked_at, answer)
        return True

    def _heard(self, index: int, now: float, answer: Answer) -> None:
        endpoint = self.endpoints[index]
        endpoint.told_at = now
        if endpoint.state is State.DRAINING:
            return
        if not answer.ready:
            self._put_off(index, now, answer.said or "not ready")
            return
        was_up = endpoint.state is State.UP
        if not was_up or endpoint.answer.donor:
            endpoint.well_since = now
        endpoint.state, endpoint.answer = State.UP, answer
        endpoint.problem, endpoint.delay = "", 0.0
        rivals = self._rivals(index) if answer.writable and self.primary is not None else []
        if rivals or (index == self.primary and not answer.writable):
            for rival in rivals:  # perhaps a switchover, and their answers are old
                self.suspect(rival, now, "another endpoint says that it is the primary")
            self._lose_primary(now)

    def _rivals(self, index: int) -> list[int]:
        """The other endpoints that take writes, and may not while this one does."""
        endpoints = self.endpoints
        others = (other for other in self._writable() if other != index)
        return [other for other in others if not agree(endpoints[other].answer, endpoints[index].answer)]

    def _is_old(self, index: int, asked_at: float) -> bool:
        """Whether an answer to a question of `asked_at` is older than the last news of the endpoint."""
        endpoint = self.endpoints[index]
        suspected_at = endpoint.ask_at if endpoint.state is State.SUSPECT else -FOREVER
        return asked_at < max(endpoint.told_at, suspected_at)

    def missed(self, index: int, asked_at: float, problem: str) -> bool:
        """Note that the endpoint did not answer the monitor, which asked it at `asked_at`.

        Returns:
            Whether it is out of service now. It may have answered a caller since.
        """
        endpoint = self.endpoints[index]
        if endpoint.state is State.UP and asked_at < endpoint.told_at:
            return False
        if endpoint.state in (State.UP, State.SUSPECT):
            endpoint.told_at = max(endpoint.told_at, asked_at)
            self._put_off(index, asked_at, problem)
        return True

    def failed(self, index: int, now: float, problem: str) -> None:
        """Note that the endpoint was asked and could not be reached in time."""
        endpoint = self.endpoints[index]
        endpoint.asked = False
        endpoint.told_at = now
        if endpoint.state is not State.DRAINING:
            self._put_off(index, now, problem)

    def suspect(self, index: int, now: float, problem: str) -> None:
        """Note that a connection to it broke, or that its role was wrong: it is asked before it is used again."""
        endpoint = self.endpoints[index]
        if endpoint.state is State.UP:
            endpoint.state = State.SUSPECT
            endpoint.ask_at = now
            endpoint.problem = problem
            if index == self.primary:
                self._lose_primary(now)

    def asking(self, index: int) -> None:
        """Note that a caller begins to ask the endpoint."""
        self.endpoints[index].asked = True

    def not_asked(self, index: int) -> None:
        """Note that the asking caller gave up for its own reasons, which is no news (Invariant 22)."""
        self.endpoints[index].asked = False

    def drain(self, index: int, now: float) -> None:
        """Take the endpoint out of service, at an operator's request."""
        self.endpoints[index].state = State.DRAINING
        if index == self.primary:
            self._lose_primary(now)

    def undrain(self, index: int, now: float) -> None:
        endpoint = self.endpoints[index]
        if endpoint.state is State.DRAINING:
            endpoint.state = State.SUSPECT
            endpoint.ask_at = now

    def _put_off(self, index: int, now: float, problem: str) -> None:
        endpoint = self.endpoints[index]
        endpoint.state = State.DOWN
        longest = LONGEST_DELAY if endpoint.listed or endpoint.well_since else LONGEST_UNREACHED
        endpoint.delay = min(longest, endpoint.delay * 2 or FIRST_DELAY)
        endpoint.ask_at = now + endpoint.delay * (0.8 + 0.4 * self._random())
        endpoint.problem = problem
        if index == self.primary:
            self._lose_primary(now)

    def _lose_primary(self, now: float) -> None:
        self.primary = None
        self._since = now

    # -- the decision --------------------------------------------------------------------------------------

    def decide(self, target: Target, now: float, in_use: Callable[[int], int]) -> Decision:
        """Decide what a borrow for `target` does now.

        Args:
            in_use: returns the number of lent connections of an endpoint.
        """
        if target == "primary":
            return self._primary(now)
        if target == "prefer-primary":
            decision = self._primary(now)
            return decision if isinstance(decision, Use | Ask) else self._readers(in_use, self._up(), decision)
        asks = self._due(now)
        if isinstance(asks, Ask):
            return asks  # one reader asks, so that the others are spread over all endpoints that are up
        fitting = self._up()
        if target != "any":
            replicas = [index for index in fitting if self._is_replica(index)]
            fitting = replicas if replicas or target == "replica" else fitting
        # None may be a replica because none was when it was asked: no borrow from it would ever tell otherwise.
        otherwise = asks if fitting else self._ask_again(now, self._up(), LONGEST_DELAY)
        return self._readers(in_use, self._spared(fitting), otherwise)

    def serves(self, index: int, target: Target) -> bool:
        """Whether a connection to the endpoint, which an earlier decision led to, may still be lent for `target`."""
        endpoint = self.endpoints[index]
        if target == "primary":
            return index == self.primary
        return endpoint.state is State.UP and (target != "replica" or self._is_replica(index))

    def _up(self) -> list[int]:
        return [index for index, endpoint in enumerate(self.endpoints) if endpoint.state is State.UP]

    def _writable(self) -> list[int]:
        return [index for index in self._up() if self.endpoints[index].writable]

    def _is_replica(self, index: int) -> bool:
        """Whether it serves reads. In a group with many primaries: every node but the first."""
        answer = self.endpoints[index].answer
        if answer.multi_primary:
            return index != self._preferred_node(self._up())
        if answer.writable:
            return False
        return self._max_lag is None or answer.lag is None or answer.lag <= self._max_lag

    def _primary(self, now: float) -> Decision:
        writable = self._writable()
        answers = [self.endpoints[index].answer for index in writable]
        is_group = bool(answers) and all(answer.multi_primary for answer in answers)
        if is_group and all(agree(one, other) for one, other in combinations(answers, 2)):
            return self._due_before(self.primary, now) or self._first_node(self._spared(writable), now)
        if self.primary is not None:
            return Use((self.primary,))
        asks = self._due(now)
        if isinstance(asks, Ask) or any(self._may_be_primary(endpoint, now) for endpoint in self.endpoints):
            return self._ask_unanswered() or asks
        if len(writable) > 1:
            asks = self._ask_again(now, writable)
            return asks if isinstance(asks, Ask) else Ambiguous(tuple(writable))
        if not writable:
            return self._ask_again(now, self._up())
        self.primary = writable[0]
        return Use((self.primary,))

    def _spared(self, fitting: list[int]) -> list[int]:
        """Without the nodes that are busy as donors, unless there are no others."""
        return [index for index in fitting if not self.endpoints[index].answer.donor] or fitting

    def _due_before(self, primary: int | None, now: float) -> Ask | None:
        """Return a preferred node that is due to be asked; without this, no borrow would ever ask it again."""
        for index, endpoint in enumerate(self.endpoints[:primary]):
            if endpoint.state in _UNKNOWN and not endpoint.asked and now >= endpoint.ask_at:
                return Ask(index)
        return None

    def _first_node(self, writable: list[int], now: float) -> Decision:
        current = self.primary
        if current in writable:
            for index in writable:
                if index == current:
                    break
                if now - self.endpoints[index].well_since >= self._failback_after:
                    self.primary = index
                    break
        elif any(one.asked and one.state is State.SUSPECT for one in self.endpoints[: writable[0]]):
            return Wait(FOREVER)  # for the answer of a preferred node; all processes should choose the same one
        else:
            self.primary = writable[0]
        assert self.primary is not None
        return Use((self.primary,))

    def _preferred_node(self, up: list[int]) -> int | None:
        if len(up) < 2:
            return None
        return self.primary if self.primary in up else up[0]

    def _may_be_primary(self, endpoint: Endpoint, now: float) -> bool:
        """Whether it may be another primary: no recent news since the last primary was lost rules that out."""
        if endpoint.state is State.DRAINING or endpoint.told_at >= self._since:
            return False
        return endpoint.asked or endpoint.state is not State.DOWN or endpoint.ask_at <= now

    def _ask_unanswered(self) -> Ask | None:
        """Return an endpoint to ask again: one that is up, and whose answer is older than the last primary's loss."""
        for index, endpoint in enumerate(self.endpoints):
            if endpoint.state is State.UP and endpoint.told_at < self._since and not endpoint.asked:
                return Ask(index)
        return None

    def _ask_again(self, now: float, which: list[int], delay: float = FIRST_DELAY) -> Ask | Wait:
        """Ask these endpoints again, each after `delay` seconds. None takes writes, and one will be promoted; or more
        than one does, until an operator has mended that; or none is read-only."""
        until = self._next_ask()
        for index in which:
            endpoint = self.endpoints[index]
            due = endpoint.told_at + delay
            if endpoint.asked:
                continue
            if now >= due:
                return Ask(index)
            until = min(until, due)
        return Wait(until)

    def _due(self, now: float) -> Ask | Wait:
        """Return the first endpoint to ask now, or else the time until which none is to be asked."""
        for index, endpoint in enumerate(self.endpoints):
            if endpoint.state in _UNKNOWN and not endpoint.asked and now >= endpoint.ask_at:
                return Ask(index)
        return Wait(self._next_ask())

    def _next_ask(self) -> float:
        return min(
            (endpoint.ask_at for endpoint in self.endpoints if endpoint.state in _UNKNOWN and not endpoint.asked),
            default=FOREVER,
        )

    def next_of(self, fitting: Sequence[int], in_use: Callable[[int], int]) -> int:
        """Return the place in `fitting`, endpoints of an earlier decision for readers, of that which is used next."""
        order = spread(self.endpoints, fitting, self.balance, self._zone, in_use, self._random)
        return fitting.index(order[0])

    def _readers(self, in_use: Callable[[int], int], fitting: list[int], otherwise: Decision) -> Decision:
        if not fitting:
            return otherwise
        return Use(spread(self.endpoints, fitting, self.balance, self._zone, in_use, self._random))
