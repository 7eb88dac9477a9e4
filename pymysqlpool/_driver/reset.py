"""Session cleaning: what the last borrower left behind, and the cheapest sufficient way to undo it.

Owns: the way from marks (`statements`, `session_state`) to a `Cleanup`, and carrying it out. Never: decides whether the
connection is kept (`reuse.py`), or how a new session is set up (`recipe`).

What each means, at the return of a connection (Invariants 8 and 9):

    nothing touched                               -> NOTHING   no round trip
    a transaction may be open                     -> ROLLBACK  one
    autocommit changed, LAST_INSERT_ID() set      -> SET       one
    anything else, or several of these            -> RESET     one, see `Recipe.renew`
    the server knows no COM_RESET_CONNECTION, or
    cannot be brought back to "no database", or
    a command that PyMySQL has no method for      -> CLOSE

A ROLLBACK that leaves a warning (it could not undo the changes of a table without transactions) or another
transaction (completion_type) is not enough: RESET follows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import COMMAND

from .cleanup import Cleanup
from .commands import Command
from .exchange import WireConnection
from .pipeline import raise_first
from .session_state import AUTOCOMMIT_STATUS, BEYOND, IN_TRANSACTION, MAY_BE_READ_ONLY
from .statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, READ_ONLY, STATE, TRANSACTION, WROTE
from .wire import Wire

if TYPE_CHECKING:
    from ..options import ResetMode
    from .recipe import Recipe


def has_uncommitted_changes(attributes: Mapping[str, Any]) -> bool:
    """Whether the end of the session would lose changes."""
    return bool(attributes["_marks"] & WROTE and attributes["_marks"] & TRANSACTION)


def may_be_read_only(attributes: Mapping[str, Any]) -> bool:
    """Whether its transactions may be READ ONLY by its own statements."""
    return bool(attributes["_marks"] & MAY_BE_READ_ONLY)


def needed(attributes: Mapping[str, Any], recipe: Recipe, mode: ResetMode) -> Cleanup:
    """Return how to clean the session that a handle with these attributes leaves behind."""
    marks: int = attributes["_marks"] & ~(WROTE | READ_ONLY)
    if bool(attributes["server_status"] & AUTOCOMMIT_STATUS) != recipe.autocommit:
        marks |= AUTOCOMMIT
    if mode == "never":
        return Cleanup.ROLLBACK if marks & TRANSACTION else Cleanup.NOTHING
    if mode == "always" or (marks and not attributes["_tracked"]):
        marks |= STATE
    if marks == NOTHING:
        return Cleanup.NOTHING
    if marks == TRANSACTION:
        return Cleanup.ROLLBACK
    if not marks & ~(AUTOCOMMIT | INSERT_ID) and recipe.small_undo is not None:
        return Cleanup.SET
    if marks & BEYOND or not recipe.can_reset or (marks & DATABASE and recipe.database is None):
        return Cleanup.CLOSE
    return Cleanup.RESET


def clean(wire: Wire, attributes: dict[str, Any], cleanup: Cleanup, recipe: Recipe, deadline: float) -> None:
    """Carry `cleanup` out on the session of `wire`, all before `deadline`, a monotonic instant.

    Args:
        attributes: those of the last handle of the session, which is quiet.

    Raises:
        pymysql.err.MySQLError: it failed; the session's state is unknown.
    """
    if cleanup is Cleanup.NOTHING:
        return
    if cleanup is Cleanup.ROLLBACK or (cleanup is Cleanup.SET and recipe.small_undo is not None):
        if wire.run(b"ROLLBACK" if cleanup is Cleanup.ROLLBACK else recipe.small_undo or b"", deadline):
            return
        cleanup = Cleanup.RESET
    if cleanup is Cleanup.CLOSE or not recipe.can_reset:
        raise err.NotSupportedError("the session cannot be reset")
    recipe.renew(wire, attributes, deadline)


# Yields a handle and commands to send by it in one go, and is sent the replies, as `WireConnection.outcomes` has them.
Exchanges = Generator[tuple[WireConnection, Sequence[Command]], list[Any], None]


def exchanges(wire: Wire, attributes: dict[str, Any], cleanup: Cleanup, recipe: Recipe) -> Exchanges:
    """As `clean`, for a driver that does not block, and for a recipe that `renews_by_commands`."""
    if cleanup is Cleanup.ROLLBACK or (cleanup is Cleanup.SET and recipe.small_undo is not None):
        statement = b"ROLLBACK" if cleanup is Cleanup.ROLLBACK else recipe.small_undo or b""
        handle = wire.borrow_privately()
        (answer,) = yield handle, [(COMMAND.COM_QUERY, statement)]
        raise_first([answer])
        wire.take_back(handle)
        if wire.is_bare(answer):
            return
        cleanup = Cleanup.RESET
    if cleanup is Cleanup.CLOSE or not recipe.can_reset:
        raise err.NotSupportedError("the session cannot be reset")
    renewal = recipe.renewal(attributes)
    handle = wire.lend_for_set_up(WireConnection.__new__(WireConnection))
    results: list[Any] = []
    for batch in [renewal.commands] if recipe.pipelines else [[command] for command in renewal.commands]:
        results += yield handle, batch
        raise_first(results)
    renewal.check(handle, results)
    if handle.server_status & IN_TRANSACTION:
        raise err.InternalError("the set-up of the session leaves a transaction open")
    wire.take_back(handle)


def clean_after(
    hook: Callable[..., None],
    wire: Wire,
    attributes: dict[str, Any],
    recipe: Recipe,
    mode: ResetMode,
    deadline: float,
) -> Cleanup:
    """Call `hook`, `on_checkin`, with a handle that has these `attributes`; then clean as what it left needs.

    Returns:
        What was needed.

    Raises:
        Exception: the hook failed, or as `clean`.
    """
    private = wire.borrow_privately(attributes)
    with private.within(deadline):
        hook(private)
    left = dict(private.__dict__)
    wire.take_back(private)
    cleanup = needed(left, recipe, mode)
    clean(wire, left, cleanup, recipe, deadline)
    return cleanup
