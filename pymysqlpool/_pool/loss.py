"""What is lost with a session: the question whether it is, and the words for the error message.

Never: ends a lease.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

from pymysql import err
from pymysql.constants import CR

from .._driver.exchange import is_between_commands
from .._driver.statements import STATE, TRANSACTION, WROTE
from .cost import Place
from .lease import Connection, Lender


def lost_with(connection: Connection) -> str:
    """Describe what was lost with the session of `connection`, for an error message; '' for nothing."""
    marks = connection.marks
    if marks & WROTE:
        return "its uncommitted changes"
    if connection.block is not None or marks & TRANSACTION:
        return "its open transaction"
    return "its session state (variables, temporary tables, locks)" if marks & STATE else ""


def loss(connection: Connection, pool: Lender, label: str, *, in_block: bool) -> err.OperationalError | None:
    """Return the error that tells what was lost with the session of `connection`; None for nothing.

    Args:
        in_block: a block is open on it, which gets no other session.
    """
    lost = lost_with(connection)
    if not lost:
        return None
    then = "leave the block" if in_block else "the next use begins a new session"
    return err.OperationalError(
        CR.CR_SERVER_GONE_ERROR,
        f"the connection of pool({pool.name}) to {pool.endpoint} was lost in {label}, and with it {lost}; nothing "
        f"uncommitted was kept. Run the work again from its beginning: {then}",
    )


def ask_if_idle(place: Place, after: float) -> None:
    """Ping a lease that was not requested for `after` seconds, to find out whether its session is gone."""
    now = monotonic()
    idle, place.asked = now - place.asked, now
    connection = place.connection
    if connection is None or connection.is_returned or connection.is_lost:
        return
    if idle >= after and is_between_commands(connection):
        with suppress(err.MySQLError):  # it is lost
            connection.ping(reconnect=False)
