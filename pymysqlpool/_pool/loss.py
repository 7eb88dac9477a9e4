"""What goes with a session that is lost.

Never: decides whether it is.
"""

from __future__ import annotations

from .._driver.statements import STATE, TRANSACTION, WROTE
from .lease import Connection


def lost_with(connection: Connection) -> str:
    """What the lost session of `connection` has taken with it, in words for its user; '' for nothing."""
    marks = connection.marks
    if marks & WROTE:
        return "its uncommitted changes"
    if connection.block is not None or marks & TRANSACTION:
        return "its open transaction"
    return "its session state (variables, temporary tables, locks)" if marks & STATE else ""
