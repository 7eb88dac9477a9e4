"""Keep, reset or discard: the one place that decides what happens to a returned connection.

The state the connection recorded decides; the exception, where an adapter knows one, can only make it worse: it may
turn a KEEP into a DISCARD and never the other way round, and its absence proves nothing (Flask hands an extension
`None` for every error that a handler took).

| what happened | verdict |
|---|---|
| a reply outstanding, rows unread, another thread mid-query, reconnected by PyMySQL | DISCARD |
| the socket closed | DISCARD; ask those that are idle |
| lost: 2006, 2013, 2055, 1053 | DISCARD; ask those that are idle |
| killed or out of step: 1927, 4031, 2014, any InterfaceError | DISCARD |
| the server's role is wrong: 1290 read-only, 1836, 1047, 1180, 1792 not asked for | DISCARD, expire the generation |
| the same again on a connection that is newer than that expiry | as if it had not happened, for a second at most |
| BaseException that is no Exception (KeyboardInterrupt, GreenletExit, CancelledError) | as the wire says |
| expired: too old, lent often enough, drained, surplus since `resize()`, the pool is closed | DISCARD |
| session touched | RESET by the cheapest sufficient means, or DISCARD where the server has none |
| anything else: no exception, IntegrityError, 1205, 1213, the application's own | KEEP |

Errors are classified in `failures.py`. `decide` is public and replaceable
(`ConnectionPool(reuse_policy=...)`); it performs nothing. Rules about a connection's age, use or standing are
not facts of their own here: the code that finds one broken calls `slot.expire(reason)`, and every return, the shortcuts
too, checks the one number that this sets.

Owns: the table. Never: performs anything. Invariants that live here: 6 (only quiet connections become idle), 12 (closed
is closed).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from . import failures
from ._driver.cleanup import Cleanup
from ._util import functions
from ._util.record import Record
from .errors import SettingsError
from .failures import Server, Siblings


class Verdict(Enum):
    """What is to become of a returned connection."""

    KEEP = "keep"  #: lend it again as it is
    RESET = "reset"  #: clean its session, then lend it again
    DISCARD = "discard"  #: close it


class Reason(Enum):
    """Why a connection was discarded. The values are log words and metric labels."""

    CLOSED = "closed"  #: the socket is gone
    INTERRUPTED = "interrupted"  #: a reply is outstanding, rows are unread, or a thread is in mid-query
    RECONNECTED = "reconnected"  #: ping(reconnect=True) has put another session in its place
    LOST = "lost"  #: an error that says the session is gone or out of step
    READ_ONLY = "read only"  #: the server is no longer the one that takes writes
    EXPIRED = "expired"  #: con_lifetime
    GENERATION = "generation"  #: drain(), or the pool learned that all of its age are dead
    IDLE = "idle"  #: max_idle
    SURPLUS = "surplus"  #: more than maxsize since resize()
    WORN = "worn"  #: lent max_uses times
    DEAD = "dead"  #: found dead when it was to be lent
    UNRESETTABLE = "unresettable"  #: touched, and the server cannot reset it
    RESET_FAILED = "reset failed"  #: cleaning its session ended in an error
    INVALIDATED = "invalidated"  #: its borrower called `invalidate()`
    DETACHED = "detached"  #: its borrower keeps it, and it is not the pool's any more
    LEAKED = "leaked"  #: its borrower was gone
    POOL_CLOSED = "pool closed"  #: `close()` of the pool


class Facts(Record):
    """The facts about a connection at its return."""

    exception: BaseException | None  #: the exception that ended the borrower's work, where known
    quiet: bool  #: at a command boundary
    open: bool  #: the socket is not closed
    reconnected: bool  #: `ping(reconnect=True)` has put another session in its place
    expired: Reason | None  #: why it must not be lent again, whatever its state
    cleanup: Cleanup  #: what its session would need
    said_read_only: bool = False  #: the borrower asked for a READ ONLY transaction itself
    just_renewed: bool = False  #: all connections were replaced for a wrong role a moment ago, and this one is new


class Decision(Record):
    """What a policy answers."""

    verdict: Verdict  #: keep, reset or discard
    reason: Reason | None = None  #: set for DISCARD
    expire_generation: bool = False  #: replace all connections as old
    ask_siblings: bool = False  #: ask the server before another that is idle now is lent


_KEEP = Decision(Verdict.KEEP)
_RESET = Decision(Verdict.RESET)

Policy = Callable[[Facts], Decision]


def check(policy: object) -> None:
    """Refuse what cannot be a policy.

    Raises:
        SettingsError: it cannot be called with the facts, or it is a class, whose instances are no decisions.
    """
    if policy is decide:
        return
    functions.check("reuse_policy", policy, "facts")
    if isinstance(policy, type) and not issubclass(policy, Decision):
        raise SettingsError(f"reuse_policy={policy!r} is a class, and no function that returns a Decision")


def decide(facts: Facts) -> Decision:
    """The table above."""
    news = failures.of_statement(facts.exception, said_read_only=facts.said_read_only)
    asks = news.siblings is Siblings.ASK
    if news.siblings is Siblings.EXPIRE and not facts.just_renewed:
        return Decision(Verdict.DISCARD, Reason.READ_ONLY, expire_generation=True)
    if not facts.open:
        return Decision(Verdict.DISCARD, Reason.CLOSED, ask_siblings=True)
    if facts.reconnected:
        return Decision(Verdict.DISCARD, Reason.RECONNECTED)
    if not facts.quiet:
        return Decision(Verdict.DISCARD, Reason.INTERRUPTED, ask_siblings=asks)
    if not news.keep and news.server is not Server.REFUSES_WORK:
        return Decision(Verdict.DISCARD, Reason.LOST, ask_siblings=asks)
    if facts.expired is not None:
        return Decision(Verdict.DISCARD, facts.expired)
    if facts.cleanup is Cleanup.CLOSE:
        return Decision(Verdict.DISCARD, Reason.UNRESETTABLE)
    if facts.cleanup is Cleanup.NOTHING:
        return _KEEP
    return _RESET


def judge(facts: Facts, policy: Policy) -> Decision:
    """Return the decision of `policy`, within the bounds of every policy: a closed pool keeps nothing, and a connection
    that is not quiet is never kept (Invariants 6 and 12)."""
    decision = policy(facts)
    if not isinstance(decision, Decision):
        raise TypeError(f"reuse_policy={policy!r} returned {decision!r}, which is no Decision")
    if facts.expired is Reason.POOL_CLOSED:
        return _discard(decision, Reason.POOL_CLOSED)
    if decision.verdict is not Verdict.DISCARD and not facts.quiet:
        return _discard(decision, Reason.INTERRUPTED)
    return decision


def _discard(decision: Decision, reason: Reason) -> Decision:
    return Decision(Verdict.DISCARD, reason, decision.expire_generation, decision.ask_siblings)


def unfit(
    expired: Reason | None, *, dead: bool, idle_for_too_long: bool = False, wrong_role: bool = False
) -> Reason | None:
    """Why a connection that is idle must be closed instead of lent; None when it may be lent."""
    if expired is not None:
        return expired
    if wrong_role:
        return Reason.READ_ONLY
    if dead:
        return Reason.DEAD
    return Reason.IDLE if idle_for_too_long else None
