"""One lease per pool and request: borrowed at first use, given back once, judged by what happened.

The framework-neutral part of every adapter: Flask keeps a `RequestScope` beside its `g`; the WSGI and ASGI
middlewares, scripts and threads carry it in a `ContextVar`. The variable holds a mutable object which is there before
the work begins, so a child task or a thread that copied the context borrows into the same scope, and whoever opened
it gives everything back. (asgiref's Local would not do: since 3.12 it is invisible in worker threads.)

Nothing is committed for you: what is left open is rolled back by the pool when the connection comes home. With
`transaction="request"` the scope begins a transaction at the first borrow and `finish` commits it or rolls it back.

Never: borrows when nobody asks, gives back twice, raises out of `close`, knows of any framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Literal

from pymysql import err
from pymysql.constants import CR

from . import transaction as _transaction
from ._driver.exchange import can_go_on, is_between_commands
from ._driver.statements import WROTE
from ._pool.cost import Use as Use
from ._pool.cost import Watch as Watch
from ._pool.cost import server_timing as _server_timing
from ._pool.lease import Connection, Lender
from ._pool.loss import lost_with
from ._util import callsite as _borrower
from ._util.lock import new_lock
from ._util.log import OneLine, logger
from .errors import ConnectionInterruptedError, GetConnectionFromPoolError, PoolError, ReturnConnectionToPoolError

TransactionMode = Literal["request"] | None
Headers = Sequence[tuple[str, str]]
CommitVeto = Callable[[int, Headers, BaseException | None], bool]

# Of a request that only asks (RFC 9110): what `transaction_on_get=False` leaves out.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_current: ContextVar[RequestScope | None] = ContextVar("pymysqlpool_request_scope", default=None)

_LATE_WRITE = "%s has written to pool(%s) after its commit point, the head of the response: rolled back. commit() it"


class NoRequestScopeError(PoolError, RuntimeError):
    """There is no request here to borrow for, or it has ended."""


class _Place:
    """The scope's one lease of one pool."""

    __slots__ = ("asked", "connection", "lock", "use")

    def __init__(self) -> None:
        self.lock = new_lock()  # held while borrowing: threads of one request wait for the same lease
        self.asked = 0.0  # monotonic, when the lease was last asked for; kept where it is looked after; guarded by lock
        self.connection: Connection | None = None  # guarded by lock
        self.use: Use | None = None  # guarded by lock


class RequestScope:
    """The connections of one request.

    Args:
        pool: what `connection()` means without an argument.
        transaction: None (nothing is committed for you) or "request".
        watch: what to log about waits and holds.
        label: names the request in log lines; may be set later.
        deadline: a monotonic instant: no borrow waits beyond it; None: the pool's `timeout` alone bounds each.
        revalidate: for scopes of hours: seconds since it was asked for after which a lease is pinged; None: never.
    """

    label = OneLine()

    def __init__(
        self,
        pool: Lender | None = None,
        *,
        transaction: TransactionMode = None,
        watch: Watch | None = None,
        label: str = "",
        deadline: float | None = None,
        revalidate: float | None = None,
    ) -> None:
        self.label = label
        self.transaction = transaction
        self.deadline = deadline
        self.uses: list[Use] = []  # every lease so far, in order
        self.refused: GetConnectionFromPoolError | None = None  # the last borrow, where it failed; until `close`
        self._revalidate_after = revalidate
        self._pool = pool
        self._watch = watch or Watch()
        self._lock = new_lock()  # guards the three below; never held while borrowing or returning
        self._places: dict[Lender, _Place] = {}
        self._closed = False
        self._finished = False  # the commit point is behind us

    @property
    def closed(self) -> bool:
        return self._closed

    def connection(self, pool: Lender | None = None) -> Connection:
        """This request's connection from `pool`: the same one each time, borrowed at the first.

        One that you have closed yourself is replaced by a new one.

        Raises:
            NoRequestScopeError: the request has ended.
            GetConnectionFromPoolError: see `ConnectionPool.get_connection`.
            pymysql.err.OperationalError: 2006, with `revalidate`: the session is gone and a transaction with it.
        """
        pool = pool or self._pool
        if pool is None:
            raise TypeError("this scope has no pool of its own: say which one, connection(pool)")
        with self._lock:
            if self._closed:
                raise NoRequestScopeError(
                    "the request or block that this belongs to has ended and its connections have gone back; "
                    "later work needs a scope of its own: `with pool.scope() as scope: scope.connection()`"
                )
            place = self._places.setdefault(pool, _Place())
        with place.lock:
            if self._revalidate_after is not None:
                self._revalidate(pool, place, self._revalidate_after)
            self._part_with_a_lost_one(pool, place)
            if place.connection is None or place.connection.is_returned:
                self._borrow(pool, place)
            assert place.connection is not None
            return place.connection

    def _borrow(self, pool: Lender, place: _Place) -> None:
        started = monotonic()
        try:
            connection = pool.get_connection(timeout=self._patience(pool, started))
        except GetConnectionFromPoolError as error:
            self.refused = error
            held = [other.name for other, its in self._places.items() if other is not pool and its.connection]
            if held:
                error.add_note(f"This request holds a connection of pool({'), pool('.join(held)}) already.")
            raise
        self.refused = None
        if place.connection is not None and not place.connection.is_returned:
            return pool.give_back(connection)  # a finalizer or a hook has borrowed for this scope inside this borrow
        now = monotonic()
        connection.note_place()
        connection.has_owner = True
        spot = _borrower.describe_place(_borrower.place()) if self._watch else ""
        place.use = Use(pool.name, spot, now - started, now, connection)
        place.connection = connection
        if self._closed:  # it ended while we waited, and `close` has not seen this one
            self._give_back(pool, place, None)
            raise NoRequestScopeError("the request ended while this thread waited for a connection")
        self.uses.append(place.use)
        if self.transaction == "request" and not self._finished:
            try:
                _transaction.begin(connection)
            except BaseException as error:
                self._give_back(pool, place, error)
                raise

    def _patience(self, pool: Lender, now: float) -> float | None:
        """Seconds that a borrow may take; None: what the pool says."""
        if self.deadline is None:
            return None
        left = max(0.0, self.deadline - now)
        return left if pool.settings.timeout is None else min(left, pool.settings.timeout)

    def _part_with_a_lost_one(self, pool: Lender, place: _Place) -> None:
        """End a lease whose session is gone, so that another one is borrowed; nobody goes on without knowing what went
        with it.

        Raises:
            pymysql.err.OperationalError: 2006: a transaction or session state is lost. In a transaction block, again
                each time until the block ends; else once.
        """
        connection = place.connection
        if connection is None or connection.is_returned or not connection.is_lost:
            return
        lost = lost_with(connection)
        in_block = connection.in_block
        if not in_block:
            self._give_back(pool, place, None)
        if lost:
            then = "leave the block" if in_block else "the next use begins a new session"
            raise err.OperationalError(
                CR.CR_SERVER_GONE_ERROR,
                f"the connection of pool({pool.name}) to {pool.endpoint} was lost in {self.label or 'this scope'}, and "
                f"with it {lost}; nothing uncommitted was kept. Run the work again from its beginning: {then}",
            )

    def _revalidate(self, pool: Lender, place: _Place, after: float) -> None:
        """See that a lease which nobody has asked for in a while still has its session; else end it."""
        now = monotonic()
        idle, place.asked = now - place.asked, now
        connection = place.connection
        if connection is None or connection.is_returned or connection.is_lost:
            return
        if idle >= after and is_between_commands(connection):
            try:
                connection.ping(reconnect=False)
            except err.MySQLError:
                return  # it is lost

    def hand_back(self, pool: Lender) -> None:
        """Give back now what is borrowed from `pool`, and forget it; the next use borrows again."""
        with self._lock:
            place = self._places.get(pool)
        if place is not None:
            with place.lock:
                if place.use is not None and place.use in self.uses:
                    self.uses.remove(place.use)
                self._give_back(pool, place, None)

    def finish(self, *, commit: bool) -> None:
        """The commit point of `transaction="request"`: before the head of the response goes out. Else nothing.

        What is said afterwards, by a body that is still being made, is not part of the transaction.

        Raises:
            pymysql.err.Error: the commit failed; nothing was kept of it. The answer must not claim success.
        """
        with self._lock:
            if self._finished or self.transaction != "request":
                return
            self._finished = True
            connections = [place.connection for place in self._places.values()]
        for connection in connections:
            if connection is None or connection.is_returned:
                continue
            if connection.open and not can_go_on(connection):
                if commit and connection.marks & WROTE:
                    raise ConnectionInterruptedError(
                        "the head of the response is due while a result is half read, so what the request has "
                        "written cannot be committed; read the result to its end, or stream from a scope of its own"
                    )
                # Only read so far, and the body goes on reading: nothing to commit.
            elif commit:
                _transaction.commit(connection)
            elif connection.open:
                try:
                    _transaction.rollback(connection)
                except Exception as error:  # noqa: BLE001 - the pool will roll back or discard it
                    logger.debug("Rollback of %s: %s", self.label, error, extra={"event": "rollback failed"})

    @property
    def trouble(self) -> err.MySQLError | None:
        """Why an answer of 500, if that is what the request ends in, should be a 503: a connection that could not be
        had, or was lost."""
        if self.refused is not None:
            return self.refused
        for pool, place in list(self._places.items()):
            connection = place.connection
            if connection is not None and not connection.is_returned and connection.is_lost:
                return err.OperationalError(CR.CR_SERVER_LOST, f"the connection of pool({pool.name}) was lost")
        return None

    def close(self, exception: BaseException | None = None) -> None:
        """Give everything back, after `exception` if one is known. May be called again; never raises an Exception."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            places = list(self._places.items())
        self.refused = None  # its traceback holds whatever the borrower had at hand
        with ExitStack() as all_of_them:  # a KeyboardInterrupt in one return must not lose the others
            for pool, place in places:
                all_of_them.callback(self._give_back, pool, place, exception)

    def _give_back(self, pool: Lender, place: _Place, exception: BaseException | None) -> None:
        connection, use = place.connection, place.use
        if connection is None or use is None:
            return
        use.end()
        said = {"event": "late write", "pool": pool.name}
        if self.transaction == "request" and self._finished and connection.is_used and connection.marks & WROTE:
            logger.warning(_LATE_WRITE, self.label or "A request", pool.name, extra=said)
        try:
            pool.give_back(connection, exception)
        except ReturnConnectionToPoolError:
            pass  # the user has closed it: what we wanted
        except Exception:  # noqa: BLE001 - nothing that ends a request may raise
            said["event"] = "return failed"
            logger.warning("A connection of pool(%s) could not be given back", pool.name, exc_info=True, extra=said)
        self._watch.report(use, self.label or "a request")


def server_timing(scope: RequestScope) -> str:
    """The value of a `Server-Timing` header for the request of `scope`, or ''."""
    return _server_timing(scope.uses)


def commits(status: int, headers: Headers, exception: BaseException | None, veto: CommitVeto | None = None) -> bool:
    """Whether a request that ends so is committed: below 400 and without an exception, or as `veto` says."""
    if veto is not None:
        return not veto(status, headers, exception)
    return exception is None and status < 400


def current_scope() -> RequestScope | None:
    """The scope that this code runs in, None outside of any."""
    return _current.get()


def current_connection(pool: Lender | None = None) -> Connection:
    """The connection of the request or `with request_scope(...)` block that this code runs in.

    Raises:
        NoRequestScopeError: it runs in none.
    """
    scope = _current.get()
    if scope is None:
        raise NoRequestScopeError(
            "there is no request here: a script, a thread or a background task opens a scope of its own, "
            "`with pool.scope():`, or borrows with `with pool.get_connection() as connection:`"
        )
    return scope.connection(pool)


@contextmanager
def entered(scope: RequestScope) -> Iterator[RequestScope]:
    """Make `scope` the current one for the block; it is not closed."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def request_scope(pool: Lender | None = None, *, transaction: TransactionMode = None) -> Iterator[RequestScope]:
    """A scope for what is no request: a script, a thread, a job. Its connections go back when the block ends.

    A block inside another one borrows connections of its own.
    """
    scope = RequestScope(pool, transaction=transaction)
    try:
        with entered(scope):
            yield scope
            scope.finish(commit=True)
    except BaseException as error:
        scope.finish(commit=False)
        scope.close(error)
        raise
    scope.close()
