"""The hook for traces: an observer is called before and after each statement of a borrower.

Without an observer `query` is PyMySQL's own, so tracing costs nothing. The pool's own statements (set-up, reset, ping)
are not reported. Owns: the observer of statements. Never: keeps a statement, or swallows an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection

from .exchange import WireConnection

# Called after the statement, with the error that ended it.
End = Callable[[BaseException | None], None]
# Called with the connection and the statement; returns the statement to send, and what is called when it has ended.
Observer = Callable[[Any, str | bytes], tuple[str | bytes, End]]

_usual = WireConnection.query
# Read before each statement that is not sent by `query`, as those on an event loop; None: no observer.
observer: Observer | None = None


def observe(told: Observer | None) -> None:
    """Call `told` for every statement from now on; None: call nothing."""
    global observer
    observer = told
    if told is None:
        WireConnection.query = _usual  # type: ignore[method-assign]
        for name in _BY_METHOD:
            if name in vars(WireConnection):
                delattr(WireConnection, name)
        return

    def query(self: Any, sql: str | bytes, unbuffered: bool = False) -> int:
        if self._slot is None:
            return _usual(self, sql, unbuffered)  # the pool's own
        sql, end = told(self, sql)
        try:
            affected = _usual(self, sql, unbuffered)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return affected

    WireConnection.query = query  # type: ignore[method-assign]
    for name, text in _BY_METHOD.items():
        setattr(WireConnection, name, _by_method(told, name, text))


# PyMySQL's own methods that send a statement without `query`, and the texts that they send.
_BY_METHOD = {"commit": "COMMIT", "rollback": "ROLLBACK", "begin": "BEGIN"}


def _by_method(told: Observer, name: str, text: str) -> Callable[[Any], None]:
    usual = getattr(Connection, name)

    def method(self: Any) -> None:
        if self._slot is None:
            usual(self)
            return
        _, end = told(self, text)
        try:
            usual(self)
        except BaseException as error:
            end(error)
            raise
        end(None)

    return method
