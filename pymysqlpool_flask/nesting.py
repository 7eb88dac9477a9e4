"""`share_nested_contexts`: the request that this thread serves, for contexts that are pushed inside it.

Whether an application context or a `test_request_context` inside a request has a separate `g`, and whether it sees the
outer request, differs between versions of Flask. So the request is noted for the duration of the server's call, and of
each call for the next chunk of a streamed body, for that thread only: work that copied the context into another thread
or greenlet runs beside the request and must not share its connection.

Never: knows connections, outlives the call: an abandoned stream lends nothing to the thread's next request.
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
        """Return what was passed to `begin` for the request that this thread serves."""
        serving = self._serving.get()
        return serving[0][0] if serving is not None and serving[0] and serving[1] == get_ident() else None

    def begin(self, request: _Request) -> None:
        """Called when a request begins. A request context inside another request, not from the server, is ignored."""
        serving = self._serving.get()
        if serving is not None and not serving[0] and serving[1] == get_ident():
            serving[0].append(request)

    def around(self, wsgi_app: WSGIApplication, is_streamed: Callable[[WSGIEnvironment], bool]) -> WSGIApplication:
        """Wrap `wsgi_app`, so that its calls are noted as serving."""

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
