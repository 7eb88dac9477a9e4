"""The ends of a request: who gives its connections back, and when.

The scope of a request is closed by `teardown_request`, by `teardown_appcontext` and by the two signals after it, since
each alone is left out or doubled in some version of Flask, and functions and receivers of the user's may run after ours
and borrow again; closing twice is harmless. `appcontext_popped` is the last of all: there is no `g` any more.

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
    """The contexts that this thread is leaving at this moment, the innermost last."""

    def __init__(self) -> None:
        self.holders: list[Holder] = []


class Endings:
    """Args: the application's state."""

    def __init__(self, state: AppState) -> None:
        self._nesting = state.nesting
        self._leaving = _Leaving()

    def note_stream(self, response: Response) -> Response:
        """After the view."""
        request = current_request()
        if request is not None and response.is_streamed and not response.direct_passthrough:
            request.environ[STREAMED] = True
        return response

    def note_exception(self, sender: Flask, exception: BaseException, **_: Any) -> None:
        holder().exception = exception

    def end_request(self, exception: BaseException | None) -> None:
        its, ending, outer = known_holder(), current_request(), self._nesting.outer
        if outer is not None and outer.request is ending:
            outer.over = True
        scope = its.scopes.pop(ending, None) if its is not None else None
        if scope is not None:
            scope.close(exception)

    def end_context(self, exception: BaseException | None) -> None:
        its = known_holder()
        if its is not None:
            if any(key is not None for key in its.scopes):
                _name_culprit(sys.exc_info()[1])
            _end(its, exception)

    def sweep(self, sender: Flask, exc: BaseException | None = None, **_: Any) -> None:
        """After all teardown functions: what they borrowed after ours had run."""
        its = known_holder()
        if its is not None:
            _end(its, exc)
            self._leaving.holders.append(its)

    def leave(self, sender: Flask, **_: Any) -> None:
        """After all receivers of that signal: what they borrowed after us. They are called in no certain order."""
        if self._leaving.holders:
            its = self._leaving.holders.pop()
            its.ended = True
            _end(its, None)

    def begin_context(self, sender: Flask, **_: Any) -> None:
        """A context is pushed; perhaps again, for a stream or by the test client."""
        its = known_holder()
        if its is not None:
            its.ended = False


def _end(its: Holder, exception: BaseException | None) -> None:
    while its.scopes:
        _, scope = its.scopes.popitem()
        scope.close(exception)


def _name_culprit(error: BaseException | None) -> None:
    """Ours has not run: in Flask up to 3.1, a function of `teardown_request` that raises stops the others."""
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
        )
