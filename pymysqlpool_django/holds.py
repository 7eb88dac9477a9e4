"""The reasons why a borrowed connection may not be given back yet.

Owns a wrapper's record of one lease, the reasons that hold it, and which statements leave state in a session. A lease
ends when Django closes the connection; in a thread of an executor at the end of the work item for which it was
borrowed; with `"release": "transaction"` as soon as no reason is left.

Never: gives a connection back; the wrapper calls `reasons()` at each event that may have ended one.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol
from weakref import WeakSet

from pymysql.constants import SERVER_STATUS

from .pools import PooledDatabase
from .writes import Unit

# Statements whose effect the same borrower may count on later.
_REMEMBERED = ("SET", "USE", "LOCK", "PREPARE", "HANDLER", "CALL", "XA")


class Hold(Enum):
    """A reason why a connection may not be given back yet."""

    CODE = "hold(), a schema editor, or connecting is in progress"
    TRANSACTION = "a transaction is open"
    AUTOCOMMIT = "autocommit is off"
    CURSOR = "a cursor is open"
    CONSTRAINTS = "constraint checks are disabled"
    THREADS = "threads share the wrapper"
    SESSION = "the session was told something that a later statement may count on"


class Ends(Enum):
    """When a lease ends, at the latest when Django closes the connection."""

    CLOSE = "close"  # then and not earlier
    WORK = "work"  # at the end of the executor's work item for which it was borrowed
    FREE = "free"  # as soon as nothing holds it


class Lease:
    """One checkout, as its wrapper sees it.

    Attributes:
        database: what it was borrowed from.
        ends: see `Ends`; `WORK` becomes `FREE` at the end of the work.
        unit: the unit of work that it was borrowed for; None where the database is no cluster.
        cursors: the open ones, where the lease does not wait for Django's close.
        constraints_off: constraint checks are disabled in this session.
        remembers: a statement left state in the session, see `is_remembered`.
        autocommit_is_set, is_set_up: Django's next request for it, while it connects, has been met by the pool.
    """

    __slots__ = (
        "autocommit_is_set",
        "constraints_off",
        "cursors",
        "database",
        "ends",
        "is_set_up",
        "remembers",
        "unit",
    )

    def __init__(self, database: PooledDatabase, ends: Ends, unit: Unit | None) -> None:
        self.database: PooledDatabase = database
        self.ends: Ends = ends
        self.unit: Unit | None = unit
        self.cursors: WeakSet[Any] | None = None if ends is Ends.CLOSE else WeakSet()
        self.constraints_off: bool = False
        self.remembers: bool = False
        self.autocommit_is_set: bool = True
        self.is_set_up: bool = database.sets_up


class Holder(Protocol):
    """The attributes of a wrapper that the reasons depend on."""

    connection: Any
    in_atomic_block: bool
    autocommit: bool
    hold_count: int

    @property
    def allow_thread_sharing(self) -> bool: ...


def reasons(wrapper: Holder, lease: Lease) -> set[Hold]:
    """Return why `lease` of `wrapper` may not be given back now. The state of the session is no reason here: the caller
    decides whether it matters."""
    found = set()
    if wrapper.hold_count:
        found.add(Hold.CODE)
    if wrapper.in_atomic_block or in_transaction(wrapper):
        found.add(Hold.TRANSACTION)
    if not wrapper.autocommit:
        found.add(Hold.AUTOCOMMIT)
    if lease.cursors:
        found.add(Hold.CURSOR)
    if lease.constraints_off:
        found.add(Hold.CONSTRAINTS)
    if wrapper.allow_thread_sharing:
        found.add(Hold.THREADS)
    return found


def in_transaction(wrapper: Holder) -> bool:
    """Return whether a transaction was open at the last reply with status flags."""
    status: int = getattr(wrapper.connection, "server_status", 0)
    return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)


def is_remembered(query: Any) -> bool:
    """Return whether this statement, without its values, may leave state in the session."""
    text = query.upper() if isinstance(query, str) else "@"
    return text.lstrip().startswith(_REMEMBERED) or "@" in text or "GET_LOCK" in text or "TEMPORARY" in text
