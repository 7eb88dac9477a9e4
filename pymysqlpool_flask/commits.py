"""The commit point of a request: COMMIT or ROLLBACK, and the final status, just before the head is sent.

Never: ends a scope that another owner has opened, such as the WSGI middleware.
"""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any

from flask import Flask, globals, has_app_context
from flask.wrappers import Response

from pymysqlpool.failures import WRONG_ROLE, is_temporary, of_statement
from pymysqlpool.request_scope import commits, server_timing

from .holders import current_request, known_holder
from .refusals import Refusals
from .state import AppState

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


_COMMITTED = "pymysqlpool.committed"  # in environ: the commit point has committed changes


class CommitPoint:
    """Implements `head.AtTheHead` for one application."""

    def __init__(self, app: Flask, state: AppState, refusals: Refusals) -> None:
        self._app = weakref.ref(app)
        self._state = weakref.ref(state)
        self._options = state.options
        self._ahead = state.ahead
        self._refusals = refusals

    def announce(self, environ: WSGIEnvironment) -> None:
        if self._options.transaction is not None:
            self._ahead.announce(environ)

    def before(self, environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> Response | None:
        app = self._app()
        its = known_holder() if has_app_context() else None
        self._ahead.note_head(environ)
        if app is None or its is None:
            return None
        refused, request = None, current_request()
        exception = its.exceptions.get(request)
        if status == 500 and exception is not None and is_temporary(exception):
            # A framework on top of Flask has answered an error; an error that a handler took leaves no exception here.
            refused = self._refusals.refuse_late(app, environ, exception)
        if refused is not None:
            status, headers = refused.status_code, list(refused.headers)
        scope = its.scopes.get(request)
        if scope is None:
            return refused
        try:
            if scope.transaction is not None:
                scope.finish(commit=commits(status, headers, exception, self._options.commit_veto))
            environ[_COMMITTED] = scope.has_committed
        except Exception as error:  # noqa: BLE001 - the application answers it, or lets it propagate
            if of_statement(error) is WRONG_ROLE:  # the server has refused the COMMIT; one that is lost may be done
                return self._refusals.refuse_late(app, environ, error)
            return _answer(app, error)
        more = []
        if self._options.server_timing and scope.uses:
            more.append(("Server-Timing", server_timing(scope)))
        state = self._state()
        if state is not None and state.carrier is not None:
            carried = state.carrier.response_header(scope, state.pool(None))
            more += [] if carried is None else [carried]
        headers += more
        if refused is not None:
            refused.headers.extend(more)
        return refused

    def instead(self, environ: WSGIEnvironment, error: Exception) -> Response | None:
        app = self._app()
        if app is None or environ.get(_COMMITTED):  # "try again" would do again what is committed
            return None
        return self._refusals.refuse_late(app, environ, error)


def _answer(app: Flask, error: Exception) -> Response:
    """Return Flask's response to an error that no view raised; raise it where errors propagate."""
    handle: Any = app.handle_exception
    context: Any = globals.app_ctx
    takes_context = len(inspect.signature(handle).parameters) > 1  # Flask 3.2
    arguments = (context._get_current_object(), error) if takes_context else (error,)
    response: Response = handle(*arguments)
    return response
