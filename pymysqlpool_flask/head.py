"""The moment just before the head of a response is sent; the application's `wsgi_app` is wrapped for it.

At this moment the response can still be replaced, and the session interface and the `after_request` functions have
written all they will write. Three things happen here:

* `transaction="request"` commits; a COMMIT that fails becomes a 500.
* A 500 that a framework on top of Flask made of an exhausted pool or a lost server becomes a 503.
* The head of a streamed body is held back until its first chunk is there, as WSGI allows. The generator runs outside of
  Flask's error handling, and if it fails before the first chunk, another response takes its place.

Flask 3.1.2 and 3.1.3 tear a request down before the first chunk of `stream_with_context`, and once more at its end.
What the view has borrowed is kept for the stream; the `close()` of the body is the latest end.

Never: touches a body that is not streamed, reads a chunk ahead, replaces a head that was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from flask.wrappers import Response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

STREAM = "pymysqlpool.stream"  # in environ, while this file is around the application: a `Stream`

Headers = list[tuple[str, str]]


class AtTheHead(Protocol):
    """What to do just before the head is sent."""

    def announce(self, environ: WSGIEnvironment) -> None:
        """Called before the application."""

    def before(self, environ: WSGIEnvironment, status: int, headers: Headers) -> Response | None:
        """In the context of the request, if it has one. Returns another response to send, or adds to the headers."""

    def instead(self, environ: WSGIEnvironment, error: Exception) -> Response | None:
        """Return the response in place of a stream that failed with `error` before its first chunk; None: raise it."""


class Stream:
    """What is known of a response's stream.

    Attributes:
        is_one: the response is streamed.
        is_ahead: its generator is to have the request's context, and has not begun.
        kept: closes what was kept for it.
    """

    __slots__ = ("is_ahead", "is_one", "kept")

    def __init__(self) -> None:
        self.is_one: bool = False
        self.is_ahead: bool = False
        self.kept: list[Callable[[], object]] = []

    def end(self) -> None:
        self.is_ahead = False
        while self.kept:
            self.kept.pop()()


class HeadKeeper:
    """Args: the application's `wsgi_app`; what to do."""

    def __init__(self, wsgi_app: WSGIApplication, at_the_head: AtTheHead) -> None:
        self._wsgi_app = wsgi_app
        self._at_the_head = at_the_head

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._at_the_head.announce(environ)
        head = _Head(environ, start_response, self._at_the_head)
        stream = environ[STREAM] = Stream()
        try:
            body = self._wsgi_app(environ, head)
            if head.other_body is None and stream.is_one:
                return _Body(body, environ, stream, head, self._at_the_head)
            if head.other_body is not None:
                _close(body)
                body = head.other_body
        except BaseException:
            stream.end()
            raise
        stream.end()
        head.go_out()
        return body


class _Head:
    """The application's `start_response`: keeps its arguments until `go_out`."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse, at_the_head: AtTheHead) -> None:
        self.other_body: Iterable[bytes] | None = None  # of a response in the place of the application's
        self._environ = environ
        self._server_starts = start_response
        self._at_the_head = at_the_head
        self._asked = False
        self._said: tuple[Any, ...] | None = None
        self._server_writes: Callable[[bytes], object] | None = None
        self._out = False  # from then on nothing is kept

    def __call__(self, status: str, headers: Headers, *exc_info: Any) -> Callable[[bytes], object]:
        if self._out:
            return self._server_starts(status, headers, *exc_info)
        headers = list(headers)
        self._said = (status, headers, *exc_info)
        if not self._asked:
            self._asked = True
            other = self._at_the_head.before(self._environ, int(status[:3]), headers)
            if other is not None:
                self.other_body = other(self._environ, self)
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


class _Body:
    def __init__(
        self, body: Iterable[bytes], environ: WSGIEnvironment, stream: Stream, head: _Head, at_the_head: AtTheHead
    ) -> None:
        self._body = body
        self._stream = stream
        self._chunks = iter(body)
        self._environ = environ
        self._head = head
        self._at_the_head = at_the_head
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._begun:
            return next(self._chunks)
        self._begun = True
        self._stream.is_ahead = False
        try:
            chunk = next(self._chunks, b"")
        except Exception as error:
            response = self._at_the_head.instead(self._environ, error)
            if response is None:
                raise
            self._chunks = iter(response(self._environ, self._head))
            chunk = next(self._chunks, b"")
        self._head.go_out()
        return chunk

    def close(self) -> None:
        try:
            _close(self._body)
        finally:
            self._stream.end()


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
