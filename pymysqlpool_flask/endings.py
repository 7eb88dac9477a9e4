"""The ends of a request: when its connections are given back.

`teardown_request`, `teardown_appcontext` and the two signals after it all close the request's scope. Each alone is
skipped or repeated in some version of Flask, and the user's functions and receivers may run after ours and borrow
again. Closing twice does nothing. `appcontext_popped` comes last, when there is no `g` any more.

Never: commits, raises an Exception, keeps an application.
"""

from __future__ import annotations

import sys
from threading import local
from typing import Any

from flask import Flask, current_app
from flask.wrappers import Response

from .head import STREAMED
from .holders import Holder, current_request, holder, known_holder
from .state import AppState


class _Leaving(local):
    """The contexts that this thread is tearing down, the innermost last."""

    def __init__(self) -> None:
        self.holders: list[Holder] = []


class Endings:
    """Args: the application's state."""

    def __init__(self, state: AppState) -> None:
        self._nesting = state.nesting
        self._leaving = _Leaving()

    def note_stream(self, response: Response) -> Response:
        """Called after the view: notes that the response is streamed."""
        if response.is_streamed and not response.direct_passthrough and (request := current_request()) is not None:
            request.environ[STREAMED] = True
        return response

    def note_exception(self, sender: Flask, exception: BaseException, **_: Any) -> None:
        holder().exceptions[current_request()] = exception

    def end_request(self, exception: BaseException | None) -> None:
        its, ending, outer = known_holder(), current_request(), self._nesting.outer
        if outer is not None and outer.request is ending:
            outer.over = True
        if its is None:
            return
        its.exceptions.pop(ending, None)  # the next request may have the same `g`
        scope = its.scopes.pop(ending, None)
        if scope is not None:
            scope.close(exception)

    def end_context(self, exception: BaseException | None) -> None:
        its = known_holder()
        if its is not None:
            if its.scopes and any(key is not None for key in its.scopes):
                _name_culprit(sys.exc_info()[1])
            _end(its, exception)

    def sweep(self, sender: Flask, exc: BaseException | None = None, **_: Any) -> None:
        """Called after all teardown functions: returns what they borrowed after ours had run."""
        its = known_holder()
        if its is not None:
            _end(its, exc)
            self._leaving.holders.append(its)

    def leave(self, sender: Flask, **_: Any) -> None:
        """Called after all receivers of the signal, whose order is undefined: returns what they borrowed after ours."""
        if self._leaving.holders:
            its = self._leaving.holders.pop()
            its.ended = True
            _end(its, None)

    def begin_context(self, sender: Flask, **_: Any) -> None:
        """Called when a context is pushed; a stream and the test client push it again."""
        its = known_holder()
        if its is not None:
            its.ended = False


def _end(its: Holder, exception: BaseException | None) -> None:
    its.exceptions.clear()
    while its.scopes:
        _, scope = its.scopes.popitem()
        scope.close(exception)


def _name_culprit(error: BaseException | None) -> None:
    """Log the function that kept ours from running: up to Flask 3.1, a teardown function that raises stops the rest."""
    step = error.__traceback__ if error is not None else None
    while step is not None and step.tb_frame.f_code.co_name != "do_teardown_request":
        step = step.tb_next
    if step is not None and (step := step.tb_next) is not None:
        code = step.tb_frame.f_code
        current_app.logger.warning(
            "The teardown function %s (%s:%d) raised %r and kept others from running; the connection of this "
            "request was given back without it",
            code.co_qualname,
            code.co_filename,
            step.tb_lineno,
            error,
            extra={"event": "teardown failed", "place": f"{code.co_filename}:{step.tb_lineno}"},
        )
