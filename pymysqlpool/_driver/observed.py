"""The seam for traces: an observer that is told of each statement of a borrower, before and after.

Without an observer `query` is PyMySQL's own, so nothing of this costs a statement anything. The pool's own statements
(set-up, reset, ping) are not told of. Never: keeps a statement, or swallows an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .exchange import WireConnection

# Called after the statement, with the error that ended it.
End = Callable[[BaseException | None], None]
# Called with the connection and the statement; returns the statement to send, and what is called when it has ended.
Observer = Callable[[Any, str | bytes], tuple[str | bytes, End]]

_usual = WireConnection.query
_observer: Observer | None = None


def observer_of(connection: Any) -> Observer | None:
    """Who is told of the statements of `connection`, where they are not sent by `query`."""
    return None if connection._slot is None else _observer


def observe(observer: Observer | None) -> None:
    """From now on `observer` is told of every statement; None: nothing is."""
    global _observer
    _observer = observer
    if observer is None:
        WireConnection.query = _usual  # type: ignore[method-assign]
        return

    def query(self: Any, sql: str | bytes, unbuffered: bool = False) -> int:
        if self._slot is None:
            return _usual(self, sql, unbuffered)  # the pool's own
        sql, end = observer(self, sql)
        try:
            affected = _usual(self, sql, unbuffered)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return affected

    WireConnection.query = query  # type: ignore[method-assign]
