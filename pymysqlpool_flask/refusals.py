"""Who is told to try again: 503 with Retry-After when the database is busy, lost, or not the one that takes writes.

What such an error is, the core says (`pymysqlpool.failures.is_temporary`), through the wrappers of SQLAlchemy. An error
handler of the user's for the error, or for anything more general, goes first; one for 503 makes the page.

Never: answers for an error that waiting does not cure, writes a log line for each of thousands.
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

# PyMySQL's classes that may say so.
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
        """As if this handler were not there, but for an error that is worth another try and has no other handler."""
        handler = _handler_of(error, but_not=self.handle)
        if handler is not None:
            return current_app.ensure_sync(handler)(error)
        if is_temporary(error):
            return self.refuse(error)
        raise error

    def refuse(self, error: BaseException) -> Any:
        """503 with Retry-After, or what the application's own handler of 503 makes of it."""
        where = f"{request.method} {request.path} ({request.endpoint})" if has_request_context() else "a request"
        if isinstance(error, GetConnectionFromPoolError):
            level = logging.ERROR if isinstance(error, PoolUnavailable) else logging.WARNING
            self._log.note(where, error, log=current_app.logger, level=level)
        else:
            current_app.logger.error("%s was answered 503: %s", one_line(where), one_line(str(error)))
        busy = ServiceUnavailable(BUSY, retry_after=self._retry_after)
        handler = _handler_of(busy)
        return current_app.ensure_sync(handler)(busy) if handler is not None else busy

    def refuse_late(self, app: Flask, environ: WSGIEnvironment, error: BaseException) -> Response | None:
        """The response to put in the place of another one, for an error that is worth another try; else None."""
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
