"""`RequestScope`: one lease per pool and request, borrowed at first use and returned once, with the request's outcome.

The framework-neutral part of every adapter: Flask keeps a `RequestScope` beside its `g`; the WSGI and ASGI
middlewares, scripts and threads carry it in a `ContextVar`. The variable holds a mutable object that exists before the
work begins. A child task or a thread that copied the context therefore borrows into the same scope, and the owner of
the scope returns everything. (asgiref's Local does not work here: since 3.12 it is invisible in worker threads.)

Nothing is committed for you: the pool rolls back uncommitted changes when the connection is returned. With
`transaction="request"` the scope begins a transaction at the first borrow, and `finish` commits it or rolls it back.

Never: borrows before a connection is requested, returns one twice, raises an Exception from `close`, knows a framework.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

from pymysql import err
from pymysql.constants import CR

from . import transaction as _transaction
from ._driver.exchange import can_go_on
from ._driver.statements import WROTE
from ._pool.commit_rule import SAFE_METHODS as SAFE_METHODS
from ._pool.commit_rule import CommitVeto as CommitVeto
from ._pool.commit_rule import Headers as Headers
from ._pool.commit_rule import TransactionMode as TransactionMode
from ._pool.committed import Committed, OnDemand
from ._pool.cost import NO_WATCH, Place
from ._pool.cost import Use as Use
from ._pool.cost import Watch as Watch
from ._pool.cost import server_timing as _server_timing
from ._pool.current import CURRENT_SCOPE, pool_of
from ._pool.lease import Connection, Lender
from ._pool.loss import ask_if_idle, loss
from ._util import callsite
from ._util.context import Holding
from ._util.lock import new_lock
from ._util.log import OneLine, logger
from .errors import ConnectionInterruptedError, GetConnectionFromPoolError, PoolError, ReturnConnectionToPoolError

_LATE_WRITE = "%s has written to pool(%s) after its commit point, the head of the response: rolled back. commit() it"


class NoRequestScopeError(PoolError, RuntimeError):
    """The code runs outside any request scope, or the scope has ended."""


class RequestScope:
    """The connections of one request.

    Args:
        pool: the pool that `connection()` borrows from by default.
        transaction: None (nothing is committed for you) or "request".
        watch: the slow waits and long holds to log.
        label: names the request in log lines.
        deadline: monotonic time beyond which no borrow waits; None: only the pool's `timeout` does.
        revalidate: for scopes that last hours: seconds without use after which a lease is pinged; None: never.

    Attributes:
        label: as given; may be set later.
        committed: the commits that the request's reads on replicas must show.
        has_committed: changes were committed at the commit point: the request may not be answered "try again".
        refused: the error of the last borrow; None: it was served, or the scope has ended.
    """

    label: OneLine = OneLine()
    committed: OnDemand = OnDemand()
    refused: GetConnectionFromPoolError | None = None
    _revalidate_after: float | None = None
    _closed = _finished = False  # _finished: the commit point has passed
    has_committed: bool = False
    _committed: Committed | None = None

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
        self._label, self.transaction = label, transaction
        self.deadline = deadline
        self.uses: list[Use] = []  # every lease so far, in order
        self._pool, self._watch, self._revalidate_after = pool, watch or NO_WATCH, revalidate
        self._lock = new_lock()  # guards these: _places, _closed, _finished, _committed; never held while borrowing
        self._places: dict[Lender, Place] = {}

    @property
    def closed(self) -> bool:
        """Whether the scope has ended."""
        return self._closed

    def connection(self, pool: Lender | None = None) -> Connection:
        """Return this request's connection from `pool`: borrowed at the first call, the same one afterwards.

        A connection that you have closed yourself is replaced by a new one.

        Raises:
            NoRequestScopeError: the request has ended.
            GetConnectionFromPoolError: see `ConnectionPool.get_connection`.
            pymysql.err.OperationalError: 2006, with `revalidate`: the session is gone and a transaction with it.
        """
        pool = pool or pool_of(self, self._pool)
        if pool is None:
            raise TypeError("this scope has no pool of its own: say which one, connection(pool)")
        with self._lock:
            if self._closed:
                raise NoRequestScopeError(
                    "the request or block that this belongs to has ended and its connections have gone back; "
                    "later work needs a scope of its own: `with pool.scope() as scope: scope.connection()`"
                )
            place = self._places.get(pool) or self._places.setdefault(pool, Place())
        with place.lock:
            if self._revalidate_after is not None:
                ask_if_idle(place, self._revalidate_after)
            self._part_with_a_lost_one(pool, place)
            if place.connection is None or place.connection.is_returned:
                self._borrow(pool, place)
            assert place.connection is not None
            return place.connection

    def _borrow(self, pool: Lender, place: Place) -> None:
        started = monotonic()
        try:
            connection = pool.get_connection(**self.committed.options(pool, self._patience(pool, started), self.uses))
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
        spot = callsite.describe_place(callsite.place()) if self._watch is not NO_WATCH else ""
        place.use = Use(pool.name, spot, now - started, now, connection)
        place.connection = connection
        if self._closed:  # the scope ended during the borrow, and `close` has not seen this lease
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
        """The time limit of a borrow in seconds; None: the pool's `timeout`."""
        if self.deadline is None:
            return None
        left = max(0.0, self.deadline - now)
        return left if pool.settings.timeout is None else min(left, pool.settings.timeout)

    def _part_with_a_lost_one(self, pool: Lender, place: Place) -> None:
        """End a lease whose session is gone, so that another one is borrowed. An error tells what was lost with it.

        Raises:
            pymysql.err.OperationalError: 2006: what is lost; in a block each time until the block ends, else once.
        """
        connection = place.connection
        if connection is None or connection.is_returned or not connection.is_lost:
            return
        in_block, refusal = connection.in_block, connection.refusal
        error = loss(connection, pool, self.label or "this scope", in_block=in_block)
        if not in_block:
            self._give_back(pool, place, None)
        if error is not None:
            raise error from refusal

    def give_back(self, pool: Lender) -> None:
        """Return the lease of `pool` now; the next use borrows again."""
        with self._lock:
            place = self._places.get(pool)
        if place is not None:
            with place.lock:
                if place.use is not None and place.use in self.uses:
                    self.uses.remove(place.use)
                self._give_back(pool, place, None)

    def join_transaction(self) -> None:
        """Begin `transaction="request"` for an inner layer that wants it. Idempotent; after the commit point, nothing.

        Raises:
            pymysqlpool.errors.TransactionError: there are uncommitted changes, which BEGIN would commit.
        """
        for connection in self._to_join():
            _transaction.begin(connection)

    def _to_join(self) -> list[Connection]:
        with self._lock:
            if self._finished or self.transaction == "request":
                return []
            self.transaction = "request"
            leases = [place.connection for place in self._places.values()]
        return [lease for lease in leases if lease is not None and not lease.is_returned]

    def finish(self, *, commit: bool) -> None:
        """The commit point of `transaction="request"`, before the head of the response is sent; else does nothing.

        Raises:
            pymysql.err.Error: the commit failed. The response must not claim success.
        """
        for connection in self._to_finish(commit):
            if commit:
                _transaction.commit(connection)
            else:
                try:
                    _transaction.rollback(connection)
                except Exception as error:  # noqa: BLE001 - the pool will roll back or discard it
                    self._note_no_rollback(connection, error)

    def _to_finish(self, commit: bool) -> Iterator[Connection]:
        """Pass the commit point: the leases whose transaction is to be ended now."""
        with self._lock:
            if self._finished or self.transaction != "request":
                return
            self._finished = True
            borrowed = [place.connection for place in self._places.values()]
        for connection in borrowed:
            if connection is None or connection.is_returned:
                continue
            if connection.open and not can_go_on(connection):
                if commit and connection.marks & WROTE:
                    raise ConnectionInterruptedError(
                        "the head of the response is due while a result is half read, so what the request has "
                        "written cannot be committed; read the result to its end, or stream from a scope of its own"
                    )
                # Only read so far, and the body goes on reading: nothing to commit.
            elif commit or connection.open:
                self.has_committed = self.has_committed or (commit and bool(connection.marks & WROTE))
                yield connection

    def _note_no_rollback(self, connection: Connection, error: Exception) -> None:
        said = {"event": "rollback failed", "pool": connection.pool.name}
        logger.debug("Rollback of %s: %s", self.label, error, extra=said)

    @property
    def trouble(self) -> err.MySQLError | None:
        """The error for which a response of 500 should become a 503: no connection was available, or one was lost."""
        if self.refused is not None:
            return self.refused
        for pool, place in list(self._places.items()):
            lease = place.connection
            if lease is not None and not lease.is_returned and lease.refusal is None and lease.is_lost:
                return err.OperationalError(CR.CR_SERVER_LOST, f"the connection of pool({pool.name}) was lost")
        return None

    def close(self, exception: BaseException | None = None) -> None:
        """Return all leases, with `exception` as the outcome if there is one. Idempotent; never raises an Exception."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            places = list(self._places.items())
        self.refused = None  # its traceback would keep the borrower's local variables alive
        if len(places) == 1:
            return self._give_back(*places[0], exception)
        with ExitStack() as all_of_them:  # a KeyboardInterrupt in one return must not lose the others
            for pool, place in places:
                all_of_them.callback(self._give_back, pool, place, exception)

    def _give_back(self, pool: Lender, place: Place, exception: BaseException | None) -> None:
        connection, use = place.connection, place.use
        if connection is None or use is None:
            return
        use.end()
        if pool.settings.track_commits:
            self.committed.note(connection)
        if self.transaction == "request" and self._finished and connection.is_used and connection.marks & WROTE:
            said = {"event": "late write", "pool": pool.name}
            logger.warning(_LATE_WRITE, self.label or "A request", pool.name, extra=said)
        try:
            pool.give_back(connection, exception)
        except ReturnConnectionToPoolError:
            pass  # the user has closed it already
        except Exception:  # noqa: BLE001 - nothing that ends a request may raise
            said = {"event": "return failed", "pool": pool.name}
            logger.warning("A connection of pool(%s) could not be given back", pool.name, exc_info=True, extra=said)
        if self._watch is not NO_WATCH:
            self._watch.report(use, self.label or "a request")


def server_timing(scope: RequestScope) -> str:
    """The value of a `Server-Timing` header for the request of `scope`, or ''."""
    return _server_timing(scope.uses)


def commits(status: int, headers: Headers, exception: BaseException | None, veto: CommitVeto | None = None) -> bool:
    """Return whether the request is committed: its status is below 400 and there is no exception, or `veto` decides."""
    if veto is not None:
        return not veto(status, headers, exception)
    return exception is None and status < 400


def current_scope() -> RequestScope | None:
    """Return the scope that this code runs in, or None outside any scope."""
    scope: RequestScope | None = CURRENT_SCOPE.get()
    return scope


def current_connection(pool: Lender | None = None) -> Connection:
    """Return the connection of the request or `with request_scope(...)` block that this code runs in.

    Raises:
        NoRequestScopeError: the code runs outside any of these.
    """
    scope: RequestScope | None = CURRENT_SCOPE.get()
    if scope is None:
        raise NoRequestScopeError(
            "there is no request here: a script, a thread or a background task opens a scope of its own, "
            "`with pool.scope():`, or borrows with `with pool.get_connection() as connection:`"
        )
    return scope.connection(pool)


def entered(scope: RequestScope) -> Holding[RequestScope | None, RequestScope]:
    """Make `scope` the current one for the block; it is not closed."""
    return Holding(CURRENT_SCOPE, scope)


@contextmanager
def request_scope(pool: Lender | None = None, *, transaction: TransactionMode = None) -> Iterator[RequestScope]:
    """A scope for work outside a request: a script, a thread, a job. Its connections are returned at the block's end.

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
