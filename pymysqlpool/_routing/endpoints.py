"""What a cluster knows of one host, what it can decide, and how readers are spread over hosts.

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
    """What is known of one host.

    Attributes:
        name: host and port, for messages.
        weight: its share where the balance is "weighted"; more than 0.
        zone: where it stands; those in the cluster's own zone come first where the balance is "zone".
        state: see the table above.
        writable: whether it takes writes; meaningful while it is UP.
        galera: whether it is a node of a Galera cluster.
        lag: seconds that it is behind its primary; None: not known.
        ask_at: monotonic; when it may be asked again.
        asked: whether a caller is asking it now.
        told_at: monotonic; the last answer or failure.
        well_since: monotonic; since when it has been UP.
        problem: what was last wrong with it, for messages.
        delay: seconds that it was last put off; 0 while it is well.
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
    """Lend from one of these endpoints, by preference in this order."""

    endpoints: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Connect to this endpoint and say what came of it, then decide again. The caller is the only one that asks it."""

    endpoint: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No endpoint fits now. Decide again at news, or at `until` (monotonic)."""

    until: float


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """These endpoints all say that they are the primary."""

    endpoints: tuple[int, ...]


Decision = Use | Ask | Wait | Ambiguous


def spread(
    endpoints: Sequence[Endpoint],
    fitting: Sequence[int],
    balance: Balance,
    zone: str,
    in_use: Callable[[int], int],
    random: Callable[[], float],
) -> tuple[int, ...]:
    """The `fitting` endpoints in the order in which a borrow tries them."""

    def usage(index: int) -> float:
        return in_use(index) / endpoints[index].weight

    if balance == "order":
        return tuple(fitting)
    if balance == "least-used":
        return tuple(sorted(fitting, key=usage))
    if balance == "zone":
        return tuple(sorted(fitting, key=lambda index: (endpoints[index].zone != zone, usage(index))))
    # A number for each that is the larger, the larger its share: the order of the keys of a weighted sample.
    keys = {i: (random() or 1e-9) ** (1 / (endpoints[i].weight if balance == "weighted" else 1.0)) for i in fitting}
    return tuple(sorted(fitting, key=lambda index: -keys[index]))
