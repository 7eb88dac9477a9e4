"""`share_nested_contexts`: which request is being served here, for the contexts that are pushed inside it.

An application context or a `test_request_context` inside a request has a `g` of its own or not, and the outer request
in sight or not, as the version of Flask has it. So the request is remembered while the server's call lasts, and while
the server asks for the next piece of a streamed body, in the thread that does it: work that copied the context into
another thread or greenlet runs beside the request and must not share its connection.

Never: knows of connections, outlives the call, so that a stream which was abandoned lends nothing to whoever is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_Request = TypeVar("_Request")


class Nesting(Generic[_Request]):
    """One application's requests that are being served, each innermost in its thread."""

    def __init__(self) -> None:
        self._serving: ContextVar[tuple[list[_Request], int] | None] = ContextVar("pymysqlpool_serving", default=None)

    @property
    def outer(self) -> _Request | None:
        """What `begin` was told about the request that this thread is serving."""
        serving = self._serving.get()
        return serving[0][0] if serving is not None and serving[0] and serving[1] == get_ident() else None

    def begin(self, request: _Request) -> None:
        """A request has begun; one that begins inside another, but is not served by itself, does not count."""
        serving = self._serving.get()
        if serving is not None and not serving[0] and serving[1] == get_ident():
            serving[0].append(request)

    def around(self, wsgi_app: WSGIApplication, is_streamed: Callable[[WSGIEnvironment], bool]) -> WSGIApplication:
        """`wsgi_app`, seen as serving."""

        def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            begun: list[_Request] = []
            with self._entered(begun):
                body = wsgi_app(environ, start_response)
            return _Body(self, body, begun) if is_streamed(environ) else body

        return application

    @contextmanager
    def _entered(self, begun: list[_Request]) -> Iterator[None]:
        token = self._serving.set((begun, get_ident()))
        try:
            yield
        finally:
            self._serving.reset(token)


class _Body(Generic[_Request]):
    """A body that is made while it is sent."""

    def __init__(self, nesting: Nesting[_Request], body: Iterable[bytes], begun: list[_Request]) -> None:
        self._nesting = nesting
        self._body = body
        self._chunks = iter(body)
        self._begun = begun

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._nesting._entered(self._begun):
            return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._nesting._entered(self._begun):
                close()
