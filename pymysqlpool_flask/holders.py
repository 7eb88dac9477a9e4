"""What one `g` has borrowed, and for which request.

A holder is on `g` under a name of its own; in it are the scopes by request object: where Flask (up to 3.1) lets several
requests share one `g`, each still has its own. None stands for no request, as in a command.

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
    """What one `g` has borrowed."""

    __slots__ = ("ended", "exception", "scopes", "sockets")

    def __init__(self) -> None:
        self.scopes: dict[Request | None, RequestScope] = {}
        self.sockets: dict[tuple[RequestScope, ConnectionPool], SocketConnection] = {}  # of websockets
        self.ended: bool = False  # the context has been torn down, and not pushed again
        self.exception: BaseException | None = None  # what the request died of, if unhandled


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
    """The holder of the current `g`, made if there is none."""
    # Threads of one request may race for it; the first wins.
    return cast("Holder", flask.g.setdefault(_NAME, Holder()))


def known_holder() -> Holder | None:
    """The holder of the current `g`, if anything has asked for one."""
    return cast("Holder | None", flask.g.get(_NAME))


def current_request() -> Request | None:
    return cast("Any", request)._get_current_object() if has_request_context() else None
