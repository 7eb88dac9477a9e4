"""The holder on `g`: the scopes of one application context, by request.

In Flask up to 3.1 several requests may share one `g`; each still has its scope. None stands for no request, as in a
command.

Never: borrows, gives back.
"""

from __future__ import annotations

from typing import Any, cast

import flask
from flask import has_request_context, request
from flask.wrappers import Request

from pymysqlpool import ConnectionPool
from pymysqlpool.request_scope import RequestScope
from pymysqlpool.wsgi import SocketConnection

_NAME = "_pymysqlpool"  # its name on g


class Holder:
    """The scopes of one `g`."""

    __slots__ = ("__weakref__", "ended", "exceptions", "scopes", "sockets")

    def __init__(self) -> None:
        self.scopes: dict[Request | None, RequestScope] = {}
        self.sockets: dict[tuple[RequestScope, ConnectionPool], SocketConnection] = {}  # of websockets
        self.ended: bool = False  # the context has been torn down, and not pushed again
        self.exceptions: dict[Request | None, BaseException] = {}  # the unhandled one of each request


class Outer:
    """The request that is being served, for contexts pushed inside it."""

    __slots__ = ("holder", "over", "request")

    def __init__(self, holder: Holder, request: Request) -> None:
        self.holder: Holder = holder
        self.request: Request = request
        self.over: bool = False  # torn down; a stream may yet push its context again

    @property
    def lends(self) -> bool:
        return self.request in self.holder.scopes or not (self.over or self.holder.ended)


def holder() -> Holder:
    """Return the holder of the current `g`; create it if there is none."""
    # Threads of one request may race for it; the first wins.
    return cast("Holder", flask.g.setdefault(_NAME, Holder()))


def known_holder() -> Holder | None:
    """Return the holder of the current `g`, or None if it was never used."""
    return cast("Holder | None", flask.g.get(_NAME))


def current_request() -> Request | None:
    return cast("Any", request)._get_current_object() if has_request_context() else None
