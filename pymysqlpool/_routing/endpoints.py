"""The record of one host, what it answers, the possible decisions of a cluster, and the order in which readers are
spread over hosts.

Plain data and pure functions; `topology.py` changes and uses them.

    state      | a borrow may use it      | leaves it by
    -----------|--------------------------|---------------------------------------------------------------
    SUSPECT    | no; one caller asks it   | `answered` -> UP, `failed` -> DOWN
    UP         | if its role fits         | `suspect` (a connection to it broke, or its role was wrong) -> SUSPECT
    DOWN       | no; asked at `ask_at`    | `answered` -> UP, `failed` -> DOWN with a longer delay
    DRAINING   | no; not asked            | `undrain` -> SUSPECT (an operator took it out, or it left its group)

Every endpoint begins as SUSPECT, due at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

Target = Literal["any", "primary", "replica", "prefer-primary", "prefer-replica"]
Balance = Literal["order", "least-used", "random", "weighted", "zone"]

FOREVER = float("inf")


class State(Enum):
    SUSPECT = "suspect"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"


class Missing(NamedTuple):
    """A privilege that the pool's user lacks: what the server does not tell, and what follows; and what would help."""

    untold: str
    privilege: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to the question what it is.

    Attributes:
        ready: it does work.
        writable: it takes writes.
        multi_primary: each ready member of its group takes writes (Galera; Group Replication without a single primary).
        donor: it is ready, and better left alone: it copies its data to another node.
        lag: seconds by which it is behind its source; None: it was not asked, has no source, or may not say.
        said: the variables and values that show it, for messages.
        own: its name in its group; '' where it has none.
        members: the host and port of each member of its group that it knows, by the member's name.
        group: its group's name.
        missing: a privilege without which it does not tell all.
    """

    ready: bool = True
    writable: bool = False
    multi_primary: bool = False
    donor: bool = False
    lag: float | None = None
    said: str = ""
    own: str = ""
    members: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    missing: Missing | None = None


NOTHING = Answer(ready=False)


@dataclass(slots=True)
class Endpoint:
    """The known state of one host.

    Attributes:
        name: host and port, for messages.
        weight: its share with balance="weighted"; greater than 0.
        zone: its location; with balance="zone", hosts in the cluster's own zone come first.
        state: see the table above.
        listed: it was given by the application, not found.
        left: it was found, and its group does not name it any more.
        answer: what it said last, while it is UP; what it said of its group, for longer.
        ask_at: monotonic time from which it may be asked again.
        asked: whether a caller is asking it now.
        told_at: monotonic time of the last answer or failure.
        well_since: monotonic time since which it has been UP.
        problem: the last problem, for messages.
        delay: the current backoff in seconds; 0 while the host is well.
    """

    name: str
    weight: float = 1.0
    zone: str = ""
    state: State = State.SUSPECT
    listed: bool = True
    left: bool = False
    answer: Answer = NOTHING
    ask_at: float = 0.0
    asked: bool = False
    told_at: float = -FOREVER
    well_since: float = 0.0
    problem: str = ""
    delay: float = 0.0

    @property
    def writable(self) -> bool:
        return self.answer.writable


@dataclass(frozen=True, slots=True)
class Use:
    """Decision: lend from one of these endpoints, in this order of preference."""

    endpoints: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Decision: connect to this endpoint, report the result, then decide again. No other caller asks it meanwhile."""

    endpoint: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Decision: no endpoint fits now. Decide again after news, or at `until` (monotonic)."""

    until: float


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Decision: fail, because all these endpoints claim to be the primary."""

    endpoints: tuple[int, ...]


Decision = Use | Ask | Wait | Ambiguous


def described(endpoint: Endpoint) -> str:
    """Its state and role."""
    if endpoint.left:
        return "left its group"
    if endpoint.state is not State.UP:
        return str(endpoint.state.value)
    return "up, takes writes" if endpoint.writable else "up, read-only"


def behind(endpoint: Endpoint) -> str:
    """How far it is behind, where that is known; '' elsewhere."""
    lag = endpoint.answer.lag
    if endpoint.state is not State.UP or lag is None:
        return ""
    return ", replication is stopped" if lag == FOREVER else f", {lag:.0f} s behind"


def agree(one: Answer, other: Answer) -> bool:
    """Whether two servers that take writes belong to one group in which each may: none of them is a server of its own,
    or in a part of the group that was cut off and goes on alone."""
    if not (one.multi_primary and other.multi_primary) or one.group != other.group:
        return False
    can_tell = one.own in one.members and other.own in other.members
    return not can_tell or one.own in other.members or other.own in one.members


def spread(
    endpoints: Sequence[Endpoint],
    fitting: Sequence[int],
    balance: Balance,
    zone: str,
    in_use: Callable[[int], int],
    random: Callable[[], float],
) -> tuple[int, ...]:
    """Return the `fitting` endpoints in the order in which a borrow tries them."""

    def usage(index: int) -> float:
        return in_use(index) / endpoints[index].weight

    if balance == "order":
        return tuple(fitting)
    if balance == "least-used":
        return tuple(sorted(fitting, key=usage))
    if balance == "zone":
        return tuple(sorted(fitting, key=lambda index: (endpoints[index].zone != zone, usage(index))))
    # A random key per endpoint that tends to be larger for a larger share: the order of a weighted sample.
    keys = {i: (random() or 1e-9) ** (1 / (endpoints[i].weight if balance == "weighted" else 1.0)) for i in fitting}
    return tuple(sorted(fitting, key=lambda index: -keys[index]))
