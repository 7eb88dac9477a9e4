"""503 with Retry-After for errors that another try may cure: the pool is busy, or the server is lost or read-only.

`pymysqlpool.failures.is_temporary` decides which errors these are, also inside the wrappers of SQLAlchemy. The user's
error handler for the error, or for a more general class, goes first; a handler for 503 makes the page.

Never: answers for an error that waiting does not cure, logs each of thousands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, has_request_context, request
from flask.wrappers import Response
from pymysql import err
from werkzeug.exceptions import ServiceUnavailable

from pymysqlpool import GetConnectionFromPoolError, PoolUnavailable
from pymysqlpool.failures import is_temporary
from pymysqlpool.refusals import BUSY, RefusalLog, one_line

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

# The classes of PyMySQL among which such errors are.
_KINDS = (GetConnectionFromPoolError, err.OperationalError, err.InterfaceError, err.InternalError)


class Refusals:
    """Args: seconds for the `Retry-After` header."""

    def __init__(self, retry_after: int) -> None:
        self._retry_after = retry_after
        self._log = RefusalLog()

    def install(self, app: Flask) -> None:
        """Handle the errors of PyMySQL for which the application has no handler of the very class."""
        for kind in _KINDS:
            if kind not in app.error_handler_spec[None][None]:
                app.register_error_handler(kind, self.handle)

    def handle(self, error: err.MySQLError) -> Any:
        """Answer a temporary error that has no other handler; treat all others as Flask does without this handler."""
        handler = _handler_of(error, but_not=self.handle)
        if handler is not None:
            return current_app.ensure_sync(handler)(error)
        if is_temporary(error):
            return self.refuse(error)
        raise error

    def refuse(self, error: BaseException) -> Any:
        """Return a 503 with Retry-After, or the response of the application's handler for 503."""
        where = f"{request.method} {request.path} ({request.endpoint})" if has_request_context() else "a request"
        if isinstance(error, GetConnectionFromPoolError):
            level = logging.ERROR if isinstance(error, PoolUnavailable) else logging.WARNING
            self._log.note(where, error, log=current_app.logger, level=level)
        else:
            said = {"event": "refused", "pool": "", "reason": type(error).__name__, "others": 0}
            current_app.logger.error("%s was answered 503: %s", one_line(where), one_line(str(error)), extra=said)
        busy = ServiceUnavailable(BUSY, retry_after=self._retry_after)
        handler = _handler_of(busy)
        if handler is None:
            return busy
        response = current_app.make_response(current_app.ensure_sync(handler)(busy))
        if response.status_code == busy.code:  # a page seldom thinks of the header
            response.headers.setdefault("Retry-After", str(self._retry_after))
        return response

    def refuse_late(self, app: Flask, environ: WSGIEnvironment, error: BaseException) -> Response | None:
        """Return the response that replaces another one if `error` is temporary; else None."""
        if not is_temporary(error):
            return None
        if has_request_context():
            return app.make_response(self.refuse(error))
        with app.request_context(environ):
            return app.make_response(self.refuse(error))


def _handler_of(error: Exception, but_not: Callable[..., Any] | None = None) -> Callable[[Any], Any] | None:
    """The user's error handler for `error`, found as Flask finds it, whose method for it differs between versions."""
    names = (*request.blueprints, None) if has_request_context() else (None,)
    for code in {getattr(error, "code", None): 0, None: 0}:
        for name in names:
            handlers = current_app.error_handler_spec[name][code]
            for kind in type(error).__mro__:
                if kind in handlers and handlers[kind] != but_not:
                    return handlers[kind]
    return None
