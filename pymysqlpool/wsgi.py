"""WSGI middleware: `application = PoolMiddleware(application, pool)`.

Inside a request, `environ["pymysqlpool.scope"].connection()`, or `current_connection(pool)` from `request_scope`,
returns the request's connection: borrowed at first use, returned when the work is done. If the body is a list, a tuple
or a `wsgi.file_wrapper` (passed on unchanged), the work is done before the body is sent; if the body is generated, when
it is exhausted, fails or is closed. If the server neither exhausts nor closes a body, the garbage collector frees it
and the pool reclaims the connection (Invariant 11).

Follows PEP 3333: `close()` is forwarded, `write` works, no chunk is read ahead, no header is changed unless configured.

If no connection is available, or one was lost, and the response has not started, the middleware responds 503 with
Retry-After in place of the exception, or of the framework's 500. Any other response of the application is unchanged.

Never: inspects a body, responds for the application in any other case.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._pool.current import inside
from ._web.socket_connection import SocketConnection as SocketConnection
from ._web.socket_connection import is_websocket as is_websocket
from .advice import warn_of_missing_timeouts
from .carried_commits import CarriedCommits
from .carried_commits import check as check_carried
from .failures import is_temporary
from .pool import ConnectionPool
from .refusals import BUSY, RefusalLog
from .request_scope import (
    SAFE_METHODS,
    CommitVeto,
    RequestScope,
    TransactionMode,
    Watch,
    commits,
    current_scope,
    entered,
    server_timing,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SCOPE = "pymysqlpool.scope"  # key in environ: the `RequestScope`
DEADLINE = "pymysqlpool.deadline"  # key in environ: a monotonic time after which no borrow waits
_BUSY = BUSY.encode() + b"\n"


class PoolMiddleware:
    """Gives every request a `RequestScope`.

    Args:
        application: any WSGI application.
        pool: the pool that `scope.connection()` borrows from; `scope.connection(other)` uses another.
        transaction: None (nothing is committed for you) or "request": each request is a transaction, committed before
            the head is sent if the status is below 400, else rolled back.
        transaction_on_get: whether `transaction` commits GET, HEAD, OPTIONS and TRACE too; if False, their changes are
            rolled back unless they commit themselves.
        commit_veto: called with status, headers and exception; a true result rolls back. Replaces the status rule.
        retry_after: seconds, in the `Retry-After` header of a 503.
        server_timing: add a `Server-Timing` header to responses whose request borrowed a connection.
        watch: the slow waits and long holds to log.
        deadline: seconds after its start at which a request stops waiting for connections. None: the pool's `timeout`
            bounds each wait, but not their sum. A monotonic time in environ["pymysqlpool.deadline"] takes precedence.
        carry_commits: a `CommitCookie` or `CommitHeader`, where `pool` is a target of a cluster: what a visitor has
            written is read by the visitor's next requests, too, from the replicas. None: only by the same request.

    Raises:
        SettingsError: `carry_commits` is none, or `pool` no target of a cluster.
        TypeError: `pool` is not a pool or is an async pool, or `application` is not callable.
    """

    def __init__(
        self,
        application: WSGIApplication,
        pool: ConnectionPool,
        *,
        transaction: TransactionMode = None,
        transaction_on_get: bool = True,
        commit_veto: CommitVeto | None = None,
        retry_after: int = 1,
        server_timing: bool = False,
        watch: Watch | None = None,
        deadline: float | None = None,
        carry_commits: CarriedCommits | None = None,
    ) -> None:
        if not callable(application):
            raise TypeError(f"PoolMiddleware(application, pool): {type(application).__name__} is no WSGI application")
        if isinstance(pool, type) or not callable(getattr(pool, "give_back", None)):
            hint = "; a WSGI application takes the pool that it awaits: its .pool" if hasattr(pool, "pool") else ""
            kind = type(pool).__name__  # not its repr: a dict of arguments has a password in it
            raise TypeError(f"PoolMiddleware(application, pool) needs a ConnectionPool, not {kind}{hint}")
        if carry_commits is not None:
            check_carried(carry_commits, pool)
        warn_of_missing_timeouts(pool)
        self.application = application
        self.pool = pool
        self.transaction = transaction
        self.transaction_on_get = transaction_on_get
        self.commit_veto = commit_veto
        self.retry_after = retry_after
        self.server_timing = server_timing
        self.watch = watch
        self.deadline = deadline
        self.carry_commits = carry_commits
        self.refusals: RefusalLog = RefusalLog()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        around: RequestScope | None = environ.get(SCOPE)
        method = environ.get("REQUEST_METHOD")
        socket = is_websocket(environ)  # a websocket has neither a transaction nor a deadline of its own
        left_out = socket or (method in SAFE_METHODS and not self.transaction_on_get)
        transaction = None if left_out else self.transaction
        if around is current_scope() and around is not None and not around.closed:
            if transaction is not None:
                around.join_transaction()
            return self._inside(around, environ, start_response)  # installed twice: one lease of each pool
        scope = environ[SCOPE] = RequestScope(
            self.pool,
            transaction=transaction,
            watch=self.watch,
            label=f"{method} {environ.get('PATH_INFO')}",
            deadline=None
            if socket
            else environ.get(DEADLINE, None if self.deadline is None else monotonic() + self.deadline),
        )
        if self.carry_commits is not None and not socket:
            name = self.carry_commits.request_header.upper().replace("-", "_")
            self.carry_commits.receive(scope, self.pool, environ.get(f"HTTP_{name}"))
        return _Exchange(self, scope, start_response, heads_only=method == "HEAD").run(environ)

    def _inside(self, scope: RequestScope, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application inside of another middleware's scope."""
        with inside(scope, self.pool):
            body = self.application(environ, start_response)
        if isinstance(body, list | tuple) or _is_file_wrapper(body, environ):
            return body
        return _InnerBody(body, partial(inside, scope, self.pool))


class _Exchange:
    """One request and its response; as an iterable, the body."""

    def __init__(
        self, middleware: PoolMiddleware, scope: RequestScope, start_response: StartResponse, heads_only: bool
    ) -> None:
        self._middleware = middleware
        self._scope = scope
        self._server_starts = start_response
        self._busy = b"" if heads_only else _BUSY
        self._replaced = False  # a 503 replaced the response, and the application's body is dropped
        self._head: tuple[int, list[tuple[str, str]], BaseException | None] | None = None
        self._said: tuple[Any, ...] | None = None  # the application's arguments, until the head goes out
        self._server_writes: Callable[[bytes], object] | None = None
        self._sent = False  # the head and at least one byte of the body were sent
        self._committing = False  # True also after a failed COMMIT: it may have taken effect, so a 503 would be wrong
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] | None = None

    def run(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        try:
            with entered(self._scope):
                self._body = self._middleware.application(environ, self._start)
            if self._head is not None:
                self._commit_point()
            if self._replaced:
                self.close()
                return [self._busy]
        except BaseException as error:
            with ExitStack() as both:
                both.callback(self._scope.close, error)
                both.callback(self._close_body)
            if self._sent or self._committing or not is_temporary(error):
                raise
            self._refuse(error, sys.exc_info())
            return [self._busy]
        if isinstance(self._body, list | tuple) or _is_file_wrapper(self._body, environ):
            self._scope.close()
            return self._body
        return self

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        """The `start_response` that is passed to the application."""
        error = exc_info[0][1] if exc_info and exc_info[0] else None
        self._head = int(status[:3]), headers, error
        trouble = self._scope.trouble if self._head[0] == 500 and not self._sent else None
        if trouble is not None:
            self._replaced = True
            self._refuse(trouble, *exc_info)
            return lambda data: None
        self._replaced = False
        if self._middleware.server_timing and self._scope.uses:
            headers = [*headers, ("Server-Timing", server_timing(self._scope))]
        self._said = status, headers, *exc_info
        if self._middleware.carry_commits is None or self._sent:
            self._go_out()  # else it waits for the commit
        return self._write

    def _write(self, data: bytes) -> object:
        self._commit_point()
        self._sent = True
        assert self._server_writes is not None
        return self._server_writes(data)

    def _go_out(self) -> None:
        """Pass the head on to the server, which sends it with the first byte of the body."""
        if self._said is not None:
            (status, headers, *exc_info), self._said = self._said, None
            self._server_writes = self._server_starts(status, [*headers, *self._carried()], *exc_info)

    def _carried(self) -> list[tuple[str, str]]:
        carries = self._middleware.carry_commits
        header = None if carries is None else carries.response_header(self._scope, self._middleware.pool)
        return [] if header is None else [header]

    def _commit_point(self) -> None:
        """The commit point, before the head is sent: a COMMIT that fails here still becomes a 500."""
        if self._head is not None:
            self._committing = True
            self._scope.finish(commit=commits(*self._head, self._middleware.commit_veto))
            self._committing = False
            self._go_out()

    def _refuse(self, error: BaseException, *exc_info: Any) -> None:
        """Start a 503 in place of a head that was not sent; if it was sent, the server raises `exc_info`."""
        self._middleware.refusals.note(self._scope.label, error)
        self._said = None
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(_BUSY))),
            ("Retry-After", str(self._middleware.retry_after)),
            *self._carried(),
        ]
        self._server_starts("503 Service Unavailable", headers, *exc_info)

    # -- a body that is made while it is sent ------------------------------------------------------------------

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with entered(self._scope):
                if self._chunks is None:
                    self._chunks = iter(self._body)
                chunk = next(self._chunks, None)
            if not self._sent and (chunk or chunk is None):
                self._commit_point()
                self._sent = True
        except BaseException as error:
            self._scope.close(error)
            if self._sent or self._committing or self._scope.has_committed or not is_temporary(error):
                raise
            self._chunks, self._sent = iter(()), True
            self._refuse(error, sys.exc_info())
            return self._busy
        if self._replaced:
            self._replaced, self._chunks = False, iter(())
            return self._busy
        self._go_out()  # an empty chunk comes before the commit point, and after the head
        if chunk is None:
            self._scope.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        try:
            self._close_body()
        finally:
            self._scope.close()

    def _close_body(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            with entered(self._scope):
                close()


class _InnerBody:
    """A body that is made while it is sent, of an application in a middleware inside another one."""

    def __init__(self, body: Iterable[bytes], inside: Callable[[], AbstractContextManager[object]]) -> None:
        self._inside = inside
        self._body = body
        self._chunks: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._inside():
            if self._chunks is None:
                self._chunks = iter(self._body)
            return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._inside():
                close()


def _is_file_wrapper(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
