"""Tracers that wrap `pymysql.connect` see the statements of pooled connections.

OpenTelemetry's instrumentation for PyMySQL, Elastic's agent, New Relic's and Datadog's all wrap the function
`pymysql.connect`, and trace the cursors of the connections that it returns. The pool never calls that function. So
where it is wrapped, a wrapper is asked for the proxy that it would have returned, by a call that connects to nothing,
and the proxy is told that the connection in it is the pool's. `cursor()` then returns what the proxy makes of a cursor.

As long as nothing wraps `pymysql.connect`, statements cost nothing more: `cursor` is PyMySQL's own.
Owns: the way of a cursor through such a wrapper. Never: connects, sends, or knows one of these packages by name.
"""

from __future__ import annotations

from typing import Any

import pymysql

from .reading import ReadingConnection

_SAYS_WHERE = ("host", "port", "user", "unix_socket")


def notice(connection: Any) -> None:
    """Called for each new session: from the first one that is made while `pymysql.connect` is wrapped, cursors of its
    class come through the wrapper."""
    if _is_wrapped():
        type(connection).cursor = _cursor
        connection.__dict__["_proxy_of"] = []  # one for the session; its handles share it


def _is_wrapped() -> bool:
    return hasattr(pymysql.connect, "__wrapped__")


def _cursor(self: Any, cursor: Any = None) -> Any:
    """As PyMySQL's `cursor`, seen by the wrapper of `pymysql.connect` if there is one now."""
    if not _is_wrapped():
        return ReadingConnection.cursor(self, cursor)
    kept: list[Any] = self.__dict__.get("_proxy_of", [])
    if not kept:
        kept.append(_proxy_for(self))
    proxy = kept[0]
    innermost = proxy
    if not hasattr(proxy, "__wrapped__"):
        return ReadingConnection.cursor(self, cursor)  # the wrapper only looked on
    while hasattr(innermost.__wrapped__, "__wrapped__"):
        innermost = innermost.__wrapped__
    innermost.__wrapped__ = _Plain(self)
    return proxy.cursor(cursor)


def _proxy_for(connection: Any) -> Any:
    where = {name: value for name in _SAYS_WHERE if (value := getattr(connection, name, None))}
    database = connection.db.decode(connection.encoding) if isinstance(connection.db, bytes) else connection.db
    return pymysql.connect(**where, database=database, defer_connect=True)


class _Plain:
    """The connection, the `cursor` of which is PyMySQL's own again."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self, cursor: Any = None) -> Any:
        return ReadingConnection.cursor(self._connection, cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
