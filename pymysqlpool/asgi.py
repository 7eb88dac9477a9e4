"""Any ASGI application, in one line: `application = PoolMiddleware(application, pool)`.

Inside, `await current_async_connection()` in a coroutine, or `request_scope.current_connection()` in a sync endpoint
(which the framework runs in a thread), is the request's connection: the same one for both, borrowed at first use, given
back at the end. The end of an HTTP request is the end of the application's call, background tasks included, or with
`release_on_response_start` the head of the response; of a websocket it is every `receive()`: one that is idle holds
nothing, and what a message has not committed is rolled back.

Never: makes a round trip on the event loop, needs a thread of the framework's to give a connection back, answers for
the application except 503 with Retry-After when no connection could be had and nothing has been sent: in place of the
exception, or of the 500 that a framework has made of it. An application that answers such a request by itself, with
anything but a 500, is left alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any, Self

from . import transaction as _transaction
from ._async.worker import Bell, Errand, in_a_thread_of_its_own, running_loop
from ._driver.exchange import is_between_commands
from ._pool.lease import Connection
from .aio import AsyncConnection, AsyncConnectionPool
from .errors import GetConnectionFromPoolError
from .health import Health, HealthCheck
from .pool import ConnectionPool
from .refusals import RefusalLog
from .request_scope import (
    SAFE_METHODS,
    CommitVeto,
    NoRequestScopeError,
    RequestScope,
    TransactionMode,
    Use,
    Watch,
    _Place,
    commits,
    current_scope,
    entered,
    server_timing,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

SCOPE = "pymysqlpool.scope"  # its name in the ASGI scope
DEADLINE = "pymysqlpool.deadline"  # there too: a monotonic instant after which no borrow waits
_BUSY = b"The database is busy or out of reach at the moment. Please try again soon.\n"
_A_MOMENT = 0.005  # seconds
_ENDS_OF_LIFE = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


class AsyncRequestScope(RequestScope):
    """A `RequestScope` whose work is done by tasks and threads alike, all with the same lease."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        transaction: TransactionMode = None,
        watch: Watch | None = None,
        label: str = "",
        deadline: float | None = None,
    ) -> None:
        super().__init__(pool.pool, transaction=transaction, watch=watch, label=label, deadline=deadline)
        self._awaited = pool
        self._loop = asyncio._get_running_loop()
        self._thread = get_ident()  # the event loop's
        self._limiter = _limiter_of_threads() if self._loop is not None else None
        self._turn = asyncio.Lock()  # held while a task borrows
        self._connections: dict[ConnectionPool, AsyncConnection] = {}  # the leases, as tasks see them
        self._units = 0  # blocks that keep the lease
        self._commit: Errand | None = None

    def connection(self, pool: ConnectionPool | None = None) -> Connection:
        """The sync connection, for code that runs in a thread; see `RequestScope.connection`."""
        if get_ident() == self._thread:
            raise RuntimeError(
                "a sync connection would block the event loop: use `await current_async_connection()` here, or make "
                "the endpoint a sync function, which the framework runs in a thread"
            )
        return super().connection(pool)

    def _borrow(self, pool: ConnectionPool, place: _Place) -> None:
        """In a thread. While it waits there it does not count against the number of threads that anyio's limiter allows
        for sync endpoints: else those who have their connection might never get a thread to use it in, or to go on
        after it, as FastAPI does to validate an answer."""
        self._allow_threads(1)
        try:
            super()._borrow(pool, place)
        finally:
            self._allow_threads(-1)

    def _allow_threads(self, more: int) -> None:
        if self._loop is not None and self._limiter is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_add_threads, self._limiter, more)

    async def async_connection(self, pool: AsyncConnectionPool | None = None) -> AsyncConnection:
        """This request's connection from `pool`: the same one each time, borrowed at the first.

        Raises:
            NoRequestScopeError: the request has ended.
            GetConnectionFromPoolError: see `ConnectionPool.get_connection`.
        """
        pool = pool or self._awaited
        async with self._turn:
            with self._lock:
                self._refuse_closed()
                place = self._places.setdefault(pool.pool, _Place())
            while not place.lock.acquire(blocking=False):
                await asyncio.sleep(_A_MOMENT)  # a thread of this request borrows it at this moment
            try:
                lent = self._lent(pool.pool, place, pool)
                if lent is None or lent.closed:
                    lent = await self._borrow_awaited(pool, place)
                return lent
            finally:
                place.lock.release()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NoRequestScopeError("the request has ended and its connections have gone back")

    def _lent(self, pool: ConnectionPool, place: _Place, awaited: AsyncConnectionPool) -> AsyncConnection | None:
        """The lease in `place`, whoever borrowed it, as tasks see it."""
        lease = place.connection
        if lease is None or lease._returned is not None:
            return None
        known = self._connections.get(pool)
        if known is None or known.lease is not lease:
            known = self._connections[pool] = AsyncConnection(awaited, lease)
        return known

    async def _borrow_awaited(self, pool: AsyncConnectionPool, place: _Place) -> AsyncConnection:
        started = monotonic()
        try:
            connection = await pool.get_connection(timeout=self._patience(pool.pool, started))
        except GetConnectionFromPoolError as error:
            self.refused = error
            self._note_what_is_held(pool.pool, error)
            raise
        self.refused = None
        try:
            self._refuse_closed()  # it may have ended while we waited
            if self.transaction == "request" and not self._finished:
                await connection.do(_transaction.begin, connection.lease)
                self._refuse_closed()
        except BaseException as error:
            await connection.give_back(error)
            raise
        now = monotonic()
        place.use = Use(pool.name, "", now - started, now, connection.lease)
        place.connection = connection.lease
        self._connections[pool.pool] = connection
        self.uses.append(place.use)
        return connection

    def _note_what_is_held(self, wanted: ConnectionPool, error: BaseException) -> None:
        held = [pool.name for pool, place in self._places.items() if pool is not wanted and place.connection]
        if held:
            error.add_note(f"This request holds a connection of pool({'), pool('.join(held)}) already.")

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Self]:
        """Keep the lease for the block, though another task awaits the websocket's next message meanwhile."""
        self._units += 1
        try:
            yield self
        finally:
            self._units -= 1
            await self.release()

    async def release(self) -> None:
        """Give back now what the request holds; the next use borrows again. Not what is in use at this moment."""
        if not self._units:
            await _all(self._start_returns(None, also_busy=False))

    async def async_finish(self, *, commit: bool) -> None:
        """See `RequestScope.finish`. When cancelled, the thread that commits does it to the end."""
        if self.transaction is None or not self._places:
            self.finish(commit=commit)
            return
        self._commit = Errand(partial(self.finish, commit=commit), self._give_all_back)
        await self._awaited.run(self._commit)

    async def async_close(self, exception: BaseException | None = None) -> None:
        """See `RequestScope.close`. All is under way before this first waits."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.refused = None  # its traceback holds whatever the borrower had at hand
        if self._commit is None or not self._commit.leave():
            await _all(self._start_returns(exception, also_busy=True))

    def _start_returns(self, exception: BaseException | None, also_busy: bool) -> list[Bell]:
        bells = []
        for pool, place in list(self._places.items()):
            lent = self._lent(pool, place, self._awaited)
            if lent is None or not (also_busy or is_between_commands(lent.lease)):
                continue
            bell = lent.start_return(partial(self._give_back, pool, place, exception))
            if bell is not None:
                bells.append(bell)
        return bells

    def _give_all_back(self) -> None:
        for pool, place in list(self._places.items()):
            self._give_back(pool, place, None)


def _limiter_of_threads() -> Any:
    """Anyio's, if the application uses it: Starlette and FastAPI run sync code through it."""
    anyio = sys.modules.get("anyio.to_thread")
    return anyio.current_default_thread_limiter() if anyio is not None else None


def _add_threads(limiter: Any, more: int) -> None:
    limiter.total_tokens = max(1, limiter.total_tokens + more)


async def _all(bells: list[Bell]) -> None:
    for bell in bells:
        await bell.wait()


async def current_async_connection(pool: AsyncConnectionPool | None = None) -> AsyncConnection:
    """The connection of the request or websocket that this code runs in.

    Raises:
        NoRequestScopeError: it runs in none.
    """
    scope = current_scope()
    if not isinstance(scope, AsyncRequestScope):
        raise NoRequestScopeError(
            "there is no ASGI request here: a task of its own borrows with `async with pool.get_connection()`"
        )
    return await scope.async_connection(pool)


async def sync_connection() -> Connection:
    """The same for a sync endpoint that is handed its connection, as by FastAPI: `Depends(sync_connection)`.

    It waits on the event loop. A sync dependency, or the endpoint itself, waits in a thread.
    """
    return (await current_async_connection()).lease


class PoolMiddleware:
    """Gives every request and every websocket an `AsyncRequestScope`.

    Args:
        app: any ASGI application.
        pool: what `current_async_connection()` borrows from; others are given by `current_async_connection(other)`.
        owns_pool: close the pool when the server ends the application's lifespan.
        eager: with the lifespan's start, make a connection; a failure stops the server.
        transaction: None (nothing is committed for you) or "request": committed before the head goes out if the
            status is below 400, else rolled back. Not for websockets.
        transaction_on_get: whether that is so for GET, HEAD, OPTIONS and TRACE too; else what they write is rolled
            back, unless they commit it themselves.
        commit_veto: called with status, headers and exception; true rolls back. Replaces the rule of the status.
        deadline: seconds after its start at which an HTTP request stops waiting for connections; None: the pool's
            `timeout` bounds each wait, and nothing their sum. A monotonic instant in scope["pymysqlpool.deadline"] goes
            first.
        ready_path: GET of this path is answered here: 200 or 503, and the pool's numbers, as JSON; see
            `pymysqlpool.health`. It borrows nothing, and waits for no request.
        retry_after: seconds, in the `Retry-After` header of a 503.
        release_on_response_start: keep no connection while the response is sent, except for a result half read; a
            stream that asks for one has it until it sends its next piece.
        server_timing: add a `Server-Timing` header to answers whose request borrowed a connection.
        watch: which slow waits and long holds to log.
    """

    def __init__(
        self,
        app: Application,
        pool: AsyncConnectionPool | ConnectionPool,
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
    ) -> None:
        self.app = app
        self.pool = pool if isinstance(pool, AsyncConnectionPool) else AsyncConnectionPool(pool=pool)
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
        self._owns_threads = self.pool is not pool
        self._refusals = RefusalLog()
        self._health = HealthCheck(self.pool.pool)
        self._asking: asyncio.Task[Health] | None = None  # the database, on behalf of all who ask at this moment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http" and self.ready_path == scope["path"] and scope["method"] in ("GET", "HEAD"):
            await self._say_health(scope, send)
            return
        if kind in ("http", "websocket"):
            around = current_scope()
            if around is None or around.closed or around is not scope.get(SCOPE):
                await (self._http if kind == "http" else self._websocket)(scope, receive, send)
                return
            # installed twice: one lease
        elif kind == "lifespan" and (self.owns_pool or self.eager or self._owns_threads):
            await self._lifespan(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        request = AsyncRequestScope(
            self.pool,
            transaction=self.transaction if self.transaction_on_get or method not in SAFE_METHODS else None,
            watch=self.watch,
            label=f"{method} {scope['path']}",
            deadline=scope.get(DEADLINE, None if self.deadline is None else monotonic() + self.deadline),
        )
        scope[SCOPE] = request
        begun = replaced = False

        async def sending(message: Message) -> None:
            nonlocal begun, replaced
            if replaced:
                return  # the body of what was to be a 500
            if message["type"] == "http.response.start":
                message = await self._before_head(request, message)
                begun = True
                if message["status"] == 500 and request.refused is not None:
                    replaced = True
                    await self._refuse(request, request.refused, method, send)
                    return
            if begun and self.release_on_response_start:
                await request.release()
            await send(message)

        try:
            with entered(request):
                await self.app(scope, receive, sending)
        except BaseException as error:
            await request.async_close(error)
            if not isinstance(error, GetConnectionFromPoolError) or (begun and not replaced):
                raise
            if not replaced:
                await self._refuse(request, error, method, send)
        else:
            await request.async_close()

    async def _before_head(self, request: AsyncRequestScope, message: Message) -> Message:
        """The commit point: a COMMIT that fails now still becomes a 500."""
        headers = list(message.get("headers", ()))
        words = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        await request.async_finish(commit=commits(message["status"], words, None, self.commit_veto))
        if self.server_timing and request.uses:
            headers.append((b"server-timing", server_timing(request).encode()))
        return {**message, "headers": headers}

    async def _refuse(
        self, request: AsyncRequestScope, error: GetConnectionFromPoolError, method: str, send: Send
    ) -> None:
        self._refusals.note(request.label, error)
        retry_after = (b"retry-after", str(self.retry_after).encode())
        await _answer(send, method, 503, b"text/plain; charset=utf-8", _BUSY, retry_after)

    async def _say_health(self, scope: Scope, send: Send) -> None:
        health = self._health.look()
        if health is None:
            if self._asking is None or self._asking.done() or self._asking.get_loop() is not running_loop():
                name = f"pymysqlpool {self.pool.name} health"
                self._asking = asyncio.create_task(in_a_thread_of_its_own(self._health.ask, name))
            health = await asyncio.shield(self._asking)
        no_store = (b"cache-control", b"no-store")
        await _answer(send, scope["method"], health.status, b"application/json", health.as_json(), no_store)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AsyncRequestScope(self.pool, watch=self.watch, label=f"websocket {scope.get('path')}")
        scope[SCOPE] = request

        async def receiving() -> Message:
            await request.release()
            return await receive()

        try:
            with entered(request):
                await self.app(scope, receiving, send)
        except BaseException as error:
            await request.async_close(error)
            raise
        await request.async_close()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open and close the pool around the application's own lifespan; an application that has none gets one."""
        begun = failed = False

        async def receiving() -> Message:
            nonlocal begun, failed
            begun = True
            message = await receive()
            if message["type"] == "lifespan.startup" and self.eager:
                try:
                    async with self.pool.get_connection():
                        pass
                except Exception as error:
                    failed = True
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
            return message

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] in _ENDS_OF_LIFE:
                await self._end()
            if not failed:
                await send(message)

        try:
            try:
                await self.app(scope, receiving, sending)
            except Exception:
                if begun:
                    raise
            if not begun:
                await _live(receiving, sending)
        except Exception:
            if not failed:  # else the server has been told
                raise

    async def _end(self) -> None:
        if self.owns_pool:
            await self.pool.close()
        elif self._owns_threads:
            self.pool.end_threads(wait=False)


async def _answer(send: Send, method: str, status: int, kind: bytes, body: bytes, header: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _live(receive: Receive, send: Send) -> None:
    """The lifespan of an application that has none of its own."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
