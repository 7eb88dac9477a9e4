"""The holder on `g`: the scopes of one application context, by request.

In Flask up to 3.1 several requests may share one `g`; each still has its scope. None stands for no request, as in a
command.

Never: borrows, gives back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import flask
from flask.wrappers import Request

from pymysqlpool import ConnectionPool
from pymysqlpool.request_scope import RequestScope
from pymysqlpool.wsgi import SocketConnection

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals

_NAME = "_pymysqlpool"  # its name on g

# What the proxies stand for, in one step: an attribute of theirs takes five.
_g = cast("Callable[[], _AppCtxGlobals]", cast("Any", flask.g)._get_current_object)
_request = cast("Callable[[], Request]", cast("Any", flask.request)._get_current_object)


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
    g = _g()
    found: Holder | None = g.get(_NAME)
    # Threads of one request may race for it; the first wins.
    return found or g.setdefault(_NAME, Holder())


def known_holder() -> Holder | None:
    """Return the holder of the current `g`, or None if it was never used."""
    found: Holder | None = _g().get(_NAME)
    return found


def current_request() -> Request | None:
    """Return the current request; None outside of one."""
    try:
        return _request()
    except RuntimeError:
        return None
