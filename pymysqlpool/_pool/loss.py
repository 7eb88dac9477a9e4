"""What is lost with a session: the words for the error message.

Never: decides whether the session is lost.
"""

from __future__ import annotations

from .._driver.statements import STATE, TRANSACTION, WROTE
from .lease import Connection


def lost_with(connection: Connection) -> str:
    """Describe what was lost with the session of `connection`, for an error message; '' for nothing."""
    marks = connection.marks
    if marks & WROTE:
        return "its uncommitted changes"
    if connection.block is not None or marks & TRANSACTION:
        return "its open transaction"
    return "its session state (variables, temporary tables, locks)" if marks & STATE else ""
