"""ASGI middleware: `application = PoolMiddleware(application, pool)`.

Inside a request, `await current_async_connection()` in a coroutine, or `request_scope.current_connection()` in a sync
endpoint (which the framework runs in a thread), returns the request's connection: the same one for both, borrowed at
first use and returned at the end. An HTTP request ends when the application's call ends, background tasks included, or
with `release_on_response_start` at the head of the response. In a websocket each task has a connection of its own while
it has work under way: see `_web/socket_scope`.

If no connection is available, or one was lost, and the response has not started, the middleware responds 503 with
Retry-After in place of the exception, or of the framework's 500. Any other response of the application is unchanged.

Never: makes a round trip on the event loop, needs a framework's thread to return a connection, responds for the
application in any other case.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from ._async.worker import in_a_thread_of_its_own, running_loop, wait_for_all
from ._pool.current import CURRENT_SCOPE
from ._web.async_scope import AsyncRequestScope, current_async_connection, sync_connection
from ._web.lifespan import live
from ._web.messages import Application, Message, Receive, Scope, Send, answer, header_of
from ._web.response import Response
from ._web.socket_scope import SocketScope
from .advice import warn_of_missing_timeouts
from .aio import AsyncConnectionPool
from .carried_commits import CarriedCommits
from .carried_commits import check as check_carried
from .cluster import ClusterPool
from .failures import is_temporary
from .health import Health, HealthCheck
from .pool import ConnectionPool
from .refusals import BUSY, RefusalLog
from .request_scope import (
    SAFE_METHODS,
    CommitVeto,
    TransactionMode,
    Watch,
    commits,
    current_scope,
    entered,
    server_timing,
)

__all__ = ["AsyncRequestScope", "PoolMiddleware", "current_async_connection", "sync_connection"]

SCOPE = "pymysqlpool.scope"  # key in the ASGI scope: the `AsyncRequestScope`
DEADLINE = "pymysqlpool.deadline"  # key in the ASGI scope: a monotonic time after which no borrow waits
_BUSY = BUSY.encode() + b"\n"


class PoolMiddleware:
    """Gives every request and every websocket an `AsyncRequestScope`.

    Args:
        app: any ASGI application.
        pool: the pool that `current_async_connection()` borrows from; `current_async_connection(other)` uses another.
        owns_pool: close the pool when the server ends the application's lifespan.
        eager: open a connection at the lifespan's start; a failure stops the server.
        transaction: None (nothing is committed for you) or "request": each HTTP request is a transaction, committed
            before the head is sent if the status is below 400, else rolled back.
        transaction_on_get: whether `transaction` commits GET, HEAD, OPTIONS and TRACE too; if False, their changes are
            rolled back unless they commit themselves.
        commit_veto: called with status, headers and exception; a true result rolls back. Replaces the status rule.
        deadline: seconds after its start at which an HTTP request stops waiting for connections. None: the pool's
            `timeout` bounds each wait, but not their sum. A monotonic time in scope["pymysqlpool.deadline"] takes
            precedence.
        ready_path: the middleware answers GET of this path: 200 or 503, and the pool's numbers, as JSON; see
            `pymysqlpool.health`. The answer needs no borrow and waits for no request.
        retry_after: seconds, in the `Retry-After` header of a 503: no connection was available, or one was lost.
        release_on_response_start: hold no connection while the response is sent, except for a partly read result; a
            stream that borrows holds the connection until it sends its next chunk.
        server_timing: add a `Server-Timing` header to responses whose request borrowed a connection.
        watch: the slow waits and long holds to log.
        carry_commits: a `CommitCookie` or `CommitHeader`, where `pool` is a target of a cluster: what a visitor has
            written is read by the visitor's next requests, too, from the replicas. None: only by the same request.

    Raises:
        SettingsError: `carry_commits` is none, or `pool` no target of a cluster.
        TypeError: `pool` is no pool.
    """

    def __init__(
        self,
        app: Application,
        pool: AsyncConnectionPool | ConnectionPool | ClusterPool,
        *,
        owns_pool: bool = False,
        eager: bool = False,
        transaction: TransactionMode = None,
        transaction_on_get: bool = True,
        commit_veto: CommitVeto | None = None,
        deadline: float | None = None,
        ready_path: str | None = None,
        retry_after: int = 1,
        release_on_response_start: bool = False,
        server_timing: bool = False,
        watch: Watch | None = None,
        carry_commits: CarriedCommits | None = None,
    ) -> None:
        if not isinstance(pool, AsyncConnectionPool | ConnectionPool | ClusterPool):
            raise TypeError(
                f"PoolMiddleware(app, pool) needs an AsyncConnectionPool or a ConnectionPool, not {type(pool).__name__}"
            )
        self.app = app
        self.pool: AsyncConnectionPool = (
            pool if isinstance(pool, AsyncConnectionPool) else AsyncConnectionPool(pool=pool)
        )
        if carry_commits is not None:
            check_carried(carry_commits, self.pool.pool)
        warn_of_missing_timeouts(self.pool.pool)
        self.owns_pool = owns_pool
        self.eager = eager
        self.transaction = transaction
        self.transaction_on_get = transaction_on_get
        self.commit_veto = commit_veto
        self.deadline = deadline
        self.ready_path = ready_path
        self.retry_after = retry_after
        self.release_on_response_start = release_on_response_start
        self.server_timing = server_timing
        self.watch = watch
        self.carry_commits = carry_commits
        self._looks_at_heads = commit_veto is not None or server_timing or carry_commits is not None
        self._is_watched = self._looks_at_heads or release_on_response_start
        self._owns_threads = self.pool is not pool
        self._refusals = RefusalLog()
        self._health = HealthCheck(self.pool.pool)
        self._asking: asyncio.Task[Health] | None = None  # the health check under way, shared by all concurrent callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if (
            kind != "http" or SCOPE in scope or (self.ready_path is not None and self.ready_path == scope["path"])
        ) and await self._is_served(kind, scope, receive, send):
            return
        # A request, in this very coroutine: each one more is resumed at every wait of the request.
        method = scope["method"]
        request = AsyncRequestScope(
            self.pool,
            transaction=None if self.transaction is None else self._transaction_of(scope),
            watch=self.watch,
            label=f"{method} {scope['path']}",
            deadline=scope.get(DEADLINE, None if self.deadline is None else monotonic() + self.deadline),
        )
        scope[SCOPE] = request
        if self.carry_commits is not None:
            said = header_of(scope, self.carry_commits.request_header)
            self.carry_commits.receive(request, self.pool.pool, said)
        response = Response(self, request, method, send, self._is_watched)
        try:
            token = CURRENT_SCOPE.set(request)  # as `entered`, without its object
            try:
                await self.app(scope, receive, response.send)
            finally:
                CURRENT_SCOPE.reset(token)
        except BaseException as error:
            await request.async_close(error)
            if response.committing or not is_temporary(error) or (response.begun and not response.replaced):
                raise
            if not response.replaced:
                await self._refuse(request, error, method, send)
        else:
            returns = request._close_nowait()
            if returns:
                await wait_for_all(returns)

    async def _is_served(self, kind: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Serve what is not a request with a scope of its own; False: it is one."""
        if kind == "http" and self.ready_path == scope["path"] and scope["method"] in ("GET", "HEAD"):
            await self._answer_health(scope, send)
        elif kind in ("http", "websocket"):
            around = scope.get(SCOPE)
            if isinstance(around, AsyncRequestScope) and not around.closed and around is current_scope():
                if kind == "http" and self._transaction_of(scope) is not None:
                    await around.async_join_transaction()
                with around.inside(self.pool):  # installed twice: one lease of each pool
                    await self.app(scope, receive, send)
            elif kind == "http":
                return False
            else:
                await self._websocket(scope, receive, send)
        elif kind == "lifespan" and (self.owns_pool or self.eager or self._owns_threads):
            await live(self.app, scope, receive, send, self._start, self._end)
        else:
            await self.app(scope, receive, send)
        return True

    async def _send_carefully(self, response: Response, message: Message) -> None:
        """Send a message of the application's that may be more than passed on; see `Response.send`."""
        request = response.request
        if response.replaced:
            return  # drop the body of the 500 that was replaced
        if message["type"] == "http.response.start":
            trouble = request.trouble if message["status"] == 500 and not response.committing else None
            if self._looks_at_heads or request.transaction is not None:
                response.committing = True
                message = await self._before_head(request, message)
                response.committing = False
            response.begun = True
            if trouble is not None:
                response.replaced = True
                await self._refuse(request, trouble, response.method, response.sending)
                return
        if self.release_on_response_start and response.begun:
            await request.release()
        await response.sending(message)

    def _transaction_of(self, scope: Scope) -> TransactionMode:
        return self.transaction if self.transaction_on_get or scope["method"] not in SAFE_METHODS else None

    async def _before_head(self, request: AsyncRequestScope, message: Message) -> Message:
        """The commit point, before the head is sent: a COMMIT that fails here still becomes a 500."""
        headers = list(message.get("headers", ()))
        words: list[tuple[str, str]] = []  # for the veto only, because decoding them costs every request
        if self.commit_veto is not None:
            words = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        await request.async_finish(commit=commits(message["status"], words, None, self.commit_veto))
        if self.server_timing and request.uses:
            headers.append((b"server-timing", server_timing(request).encode()))
        headers += self._carried(request)
        return {**message, "headers": headers}

    def _carried(self, request: AsyncRequestScope) -> list[tuple[bytes, bytes]]:
        carries = self.carry_commits
        header = None if carries is None else carries.response_header(request, self.pool.pool)
        return [] if header is None else [(header[0].lower().encode(), header[1].encode())]

    async def _refuse(self, request: AsyncRequestScope, error: BaseException, method: str, send: Send) -> None:
        self._refusals.note(request.label, error)
        retry_after = (b"retry-after", str(self.retry_after).encode())
        await answer(send, method, 503, b"text/plain; charset=utf-8", _BUSY, retry_after, *self._carried(request))

    async def _answer_health(self, scope: Scope, send: Send) -> None:
        health = self._health.look()
        if health is None:
            if self._asking is None or self._asking.done() or self._asking.get_loop() is not running_loop():
                name = f"pymysqlpool {self.pool.name} health"
                self._asking = asyncio.create_task(in_a_thread_of_its_own(self._health.ask, name))
            health = await asyncio.shield(self._asking)
        no_store = (b"cache-control", b"no-store")
        await answer(send, scope["method"], health.status, b"application/json", health.as_json(), no_store)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = SocketScope(self.pool, watch=self.watch, label=f"websocket {scope.get('path')}")
        scope[SCOPE] = request

        async def receiving() -> Message:
            message: Message = await request.receive(receive)
            return message

        async def sending(message: Message) -> None:
            await request.before_an_answer()
            await send(message)

        try:
            with entered(request):
                await self.app(scope, receiving, sending)
        except BaseException as error:
            await request.async_close(error)
            raise
        await request.async_close()

    async def _start(self) -> None:
        if self.eager:
            async with self.pool.get_connection():
                pass

    async def _end(self) -> None:
        if self.owns_pool:
            await self.pool.close()
        elif self._owns_threads:
            self.pool.end_threads(wait=False)
