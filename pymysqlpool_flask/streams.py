"""A stream that cannot begin, for want of a connection, is a 503 like any other page.

What makes a streamed body runs when the server asks for its first bytes: the view has returned, and no error handler of
Flask's is there any more. So the head of a stream is kept back until its first chunk is there, as WSGI allows; where
that fails, another response takes its place. The application's `wsgi_app` is wrapped for it, in the way that Flask
documents for middleware.

Never: touches a response that is not streamed, reads a chunk ahead, replaces a head that is out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask.wrappers import Response
from pymysql import err

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

STREAMED = "pymysqlpool.streamed"  # in environ: the response is one

Refuse = Callable[["WSGIEnvironment", err.MySQLError], Response | None]


class LateRefusal:
    """Args: the application's `wsgi_app`; what makes the 503 of an error, or None of one that is not about that."""

    def __init__(self, wsgi_app: WSGIApplication, refuse: Refuse) -> None:
        self._wsgi_app = wsgi_app
        self._refuse = refuse

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        head = _Head(start_response)
        body = self._wsgi_app(environ, head)
        if environ.get(STREAMED):
            return _Stream(body, environ, head, self._refuse)
        head.go_out()
        return body


class _Head:
    """The application's `start_response`: what it says is kept until `go_out`."""

    def __init__(self, start_response: StartResponse) -> None:
        self._server_starts = start_response
        self._said: tuple[Any, ...] | None = None
        self._server_writes: Callable[[bytes], object] | None = None
        self._out = False  # from then on nothing is kept

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        if self._out:
            return self._server_starts(status, headers, *exc_info)
        self._said = (status, headers, *exc_info)
        return self._write

    def go_out(self) -> None:
        if not self._out:
            self._out = True
            if self._said is not None:
                self._server_writes = self._server_starts(*self._said)

    def _write(self, data: bytes) -> object:
        """PEP 3333's other way to send a body."""
        self.go_out()
        assert self._server_writes is not None
        return self._server_writes(data)


class _Stream:
    def __init__(self, body: Iterable[bytes], environ: WSGIEnvironment, head: _Head, refuse: Refuse) -> None:
        self._body = body
        self._chunks = iter(body)
        self._environ = environ
        self._head = head
        self._refuse = refuse
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._begun:
            return next(self._chunks)
        self._begun = True
        try:
            chunk = next(self._chunks, b"")
        except err.MySQLError as error:
            response = self._refuse(self._environ, error)
            if response is None:
                raise
            self._chunks = iter(response(self._environ, self._head))
            chunk = next(self._chunks, b"")
        self._head.go_out()
        return chunk

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
