"""The record of one host, the possible decisions of a cluster, and the order in which readers are spread over hosts.

Plain data and pure functions; `topology.py` changes and uses them.

    state      | a borrow may use it      | leaves it by
    -----------|--------------------------|---------------------------------------------------------------
    SUSPECT    | no; one caller asks it   | `answered` -> UP, `failed` -> DOWN
    UP         | if its role fits         | `suspect` (a connection to it broke, or its role was wrong) -> SUSPECT
    DOWN       | no; asked at `ask_at`    | `answered` -> UP, `failed` -> DOWN with a longer delay
    DRAINING   | no; not asked            | `undrain` -> SUSPECT

Every endpoint begins as SUSPECT, due at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Target = Literal["any", "primary", "replica", "prefer-primary", "prefer-replica"]
Balance = Literal["order", "least-used", "random", "weighted", "zone"]

FOREVER = float("inf")


class State(Enum):
    SUSPECT = "suspect"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(slots=True)
class Endpoint:
    """The known state of one host.

    Attributes:
        name: host and port, for messages.
        weight: its share with balance="weighted"; greater than 0.
        zone: its location; with balance="zone", hosts in the cluster's own zone come first.
        state: see the table above.
        writable: whether it takes writes; valid only while the state is UP.
        galera: whether it is a node of a Galera cluster.
        lag: replication lag behind its primary, in seconds; None: unknown.
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
    writable: bool = False
    galera: bool = False
    lag: float | None = None
    ask_at: float = 0.0
    asked: bool = False
    told_at: float = -FOREVER
    well_since: float = 0.0
    problem: str = ""
    delay: float = 0.0


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
    if endpoint.state is not State.UP:
        return str(endpoint.state.value)
    return "up, takes writes" if endpoint.writable else "up, read-only"


def behind(endpoint: Endpoint) -> str:
    """How far it is behind, where that is known; '' elsewhere."""
    if endpoint.state is not State.UP or endpoint.lag is None:
        return ""
    return ", replication is stopped" if endpoint.lag == FOREVER else f", {endpoint.lag:.0f} s behind"


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
