"""The ends of a request: when its connections are given back.

`teardown_request`, `teardown_appcontext` and the two signals after it all close the request's scope. Each alone is
skipped or repeated in some version of Flask, and the user's functions and receivers may run after ours and borrow
again. Closing twice does nothing. `appcontext_popped` comes last, when there is no `g` any more. A teardown before the
first chunk of a stream that is to have the context (Flask 3.1.2 and 3.1.3) is not the end.

Never: commits, raises an Exception, keeps an application.
"""

from __future__ import annotations

import sys
from threading import local
from types import GeneratorType
from typing import Any

from flask import Flask, current_app, stream_with_context
from flask.wrappers import Request, Response

from pymysqlpool.request_scope import RequestScope

from .head import STREAM, Stream
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

    def note_stream(self, sender: Flask, response: Response, **_: Any) -> None:
        """Called when no function changes the response any more: is it streamed, and in the request's context?"""
        request = current_request()
        stream: Stream | None = None if request is None else request.environ.get(STREAM)
        if stream is not None:
            stream.is_one = response.is_streamed and not response.direct_passthrough
            stream.is_ahead = stream.is_one and _has_context(response.response)

    def note_exception(self, sender: Flask, exception: BaseException, **_: Any) -> None:
        holder().exceptions[current_request()] = exception

    def end_request(self, exception: BaseException | None) -> None:
        its, ending, outer = known_holder(), current_request(), self._nesting.outer
        if outer is not None and outer.request is ending:
            outer.over = True
        if its is None:
            return
        its.exceptions.pop(ending, None)  # the next request may have the same `g`
        scope = its.scopes.get(ending)
        if scope is not None and not _keeps(ending, scope):
            its.scopes.pop(ending, None)
            scope.close(exception)

    def end_context(self, exception: BaseException | None) -> None:
        its = known_holder()
        if its is not None:
            if any(key is not None and not _keeps(key, scope) for key, scope in its.scopes.items()):
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
    for key, scope in list(its.scopes.items()):
        if not _keeps(key, scope):
            its.scopes.pop(key, None)
            scope.close(exception)


def _has_context(body: object) -> bool:
    """Whether a response's body is what `flask.stream_with_context` returns."""
    return isinstance(body, GeneratorType) and body.gi_code in stream_with_context.__code__.co_consts


def _keeps(request: Request | None, scope: RequestScope) -> bool:
    """Keep `scope` for the stream of its request, if that has the context and has not begun."""
    stream: Stream | None = None if request is None else request.environ.get(STREAM)
    if stream is None or not stream.is_ahead:
        return False
    if scope.close not in stream.kept:
        stream.kept.append(scope.close)
    return True


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
