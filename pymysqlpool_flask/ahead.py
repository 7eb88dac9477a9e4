"""Whether a request's commit point lies ahead of the code that borrows: only then does its transaction begin.

The commit point is the head of a response, which goes out once, in the context in which the server's call began. A
transaction that began after it, or in a context without a head (`test_request_context`, a copied request context),
would be committed by nothing, and a `with db.transaction():` in it would be a savepoint of that. So such code has no
request transaction, and commits itself.

Never: knows connections, keeps a holder alive.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .holders import Holder, current_request, holder

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from flask import Flask


class _Point:
    """The commit point of one call of the application."""

    __slots__ = ("holder", "past")

    def __init__(self) -> None:
        self.holder: weakref.ref[Holder] | None = None  # of the context in which the head will be sent
        self.past: bool = False


class Ahead:
    """One application's commit points. They are in the requests' environ."""

    def __init__(self) -> None:
        self._key = f"pymysqlpool.commit_point.{id(self):x}"  # an application may call another with its environ

    def announce(self, environ: WSGIEnvironment) -> None:
        """Called before the application is."""
        environ[self._key] = _Point()

    def note_context(self, sender: Flask, **_: Any) -> None:
        """Called when a request begins, before any code of a view: binds the commit point to this context."""
        request = current_request()
        if request is not None:
            self.of(request.environ, holder())

    def note_head(self, environ: WSGIEnvironment) -> None:
        """Called just before the head goes out."""
        point = environ.get(self._key)
        if point is not None:
            point.past = True

    def of(self, environ: WSGIEnvironment, its: Holder) -> bool:
        """Return whether the commit point of the request `environ` lies ahead, for code whose holder is `its`."""
        point: _Point | None = environ.get(self._key)
        if point is None or point.past:
            return False
        if point.holder is None:  # the session interface may borrow before the request begins
            point.holder = weakref.ref(its)
        return point.holder() is its
