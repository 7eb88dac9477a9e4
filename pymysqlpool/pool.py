"""ConnectionPool: lifecycle, and checkout with a deadline.

    NEW -> OPEN -> CLOSING -> CLOSED        (CLOSED is terminal; a forked child begins with NEW)

Owns: the public methods, and the loop by which a thread borrows. The files behind it: `_pool/core.py` (the one lock,
and what it guards), `checkout.py` (a borrow that waits, connects or checks), `checkin.py` (a return), `first_step.py`
and `idle_lease.py` (both without the lock), `maintenance.py`, `diagnostics.py` (numbers and errors). Never: does I/O
with the lock held.

A caller that may connect does so itself, in its own thread: no background thread is needed for anything here.

Invariants that live here: 12 (closed is closed), 17 (settings are what you wrote).
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from time import monotonic

from . import reuse, settings
from ._pool import checkin
from ._pool.core import PoolCore
from ._pool.first_step import AT_ONCE, FirstStep, NotLent
from ._pool.life import PoolState
from ._pool.pickled import Travelling
from ._util import callsite, late
from .errors import ReturnConnectionToPoolError
from .reuse import Reason
from .secrets import conceal
from .settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, Unpack

    from ._pool import diagnostics, log_fields, maintenance, observed, registry
    from ._pool.beforehand import pre_create
    from ._pool.checkout import checkout, withdraw
    from ._pool.checkout_request import CheckoutRequest
    from ._pool.idle_lease import make_lease
    from ._pool.lease import Connection
    from ._pool.slot import IDLE, MaintenanceLease, Slot
    from ._pool.waiter import ThreadWaiter, Waiter
    from ._pool.while_waiting import LOOK_AROUND, lend_given, queue_up
    from ._util.namesakes import warn_of_namesakes
    from .options import PoolOptions
    from .request_scope import RequestScope
    from .stats import Borrower, PoolEvent, PoolStats
else:
    late.names(globals(), "pymysqlpool._pool", "beforehand:pre_create", "checkout:checkout,withdraw", "diagnostics")
    late.names(globals(), "pymysqlpool._pool", "checkout_request:CheckoutRequest", "maintenance")
    late.names(globals(), "pymysqlpool._pool", "idle_lease:make_lease", "lease:Connection", "log_fields")
    late.names(globals(), "pymysqlpool._pool", "observed", "registry", "slot:IDLE,MaintenanceLease")
    late.names(globals(), "pymysqlpool._pool", "waiter:ThreadWaiter")
    late.names(globals(), "pymysqlpool._pool", "while_waiting:LOOK_AROUND,lend_given,queue_up")
    late.names(globals(), "pymysqlpool", "_util.namesakes:warn_of_namesakes", "stats:Borrower,PoolEvent,PoolStats")

__all__ = ["ConnectionPool", "PoolState"]

_getframe = sys._getframe
_thread = callsite.local


class ConnectionPool(FirstStep, Travelling, PoolCore):
    """A pool of PyMySQL connections to one server.

    Args:
        size: connections opened on demand, without waiting first; None: 10, or `maxsize` if that is less.
        maxsize: the bound on connections; never exceeded. Between `size` and `maxsize` a caller waits first.
        name: shown in messages; default host-port-user-database.
        pre_create_num: connections to make now, never more than `maxsize`.
        con_lifetime: seconds after which a connection is replaced; 0, negative or None: never.
        **options: the further options of `pymysqlpool.settings.Settings` (keyword only), `reuse_policy` (a function
            from `reuse.Facts` to `reuse.Decision`), and everything that `pymysql.connect()` takes. `password`,
            `user`, `host` and `port` may be callables, asked at every connect.

    Attributes:
        name: of the option, or made from the arguments.
        endpoint: host and port, or the path of a socket, for messages.

    Raises:
        SettingsError: an option is unknown, out of bounds or contradicts another.
    """

    def __init__(
        self,
        size: int | None = None,
        maxsize: int = settings.DEFAULT_MAXSIZE,
        name: str | None = None,
        pre_create_num: int = 0,
        con_lifetime: float | None = 3600,
        *,
        reuse_policy: reuse.Policy = reuse.decide,
        **options: Unpack[PoolOptions],
    ) -> None:
        given = conceal(options)
        del options  # in the clear, for tools that report the variables of frames
        reuse.check(reuse_policy)
        own, connect_args = settings.split(
            {
                "size": size,
                "maxsize": maxsize,
                "name": name,
                "pre_create_num": pre_create_num,
                "con_lifetime": con_lifetime,
                **given,
            }
        )
        name = name or settings.default_name(connect_args)
        super().__init__(name, settings.endpoint_of(connect_args), own, connect_args, reuse_policy)
        warn_of_namesakes()
        try:
            pre_create(self, min(own.pre_create_num, own.maxsize))
        except BaseException:
            self.close(timeout=0)
            raise

    # -- borrowing -----------------------------------------------------------------------------------------

    def _borrow_slowly(
        self,
        lease: Connection | None,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
    ) -> Connection | NotLent:
        """Wait, connect or check: everything that the fast path of `get_connection` does not need."""
        if retry_num is AT_ONCE:
            return NotLent(lease)
        frame = _getframe(2)  # of the call of `get_connection`
        place, offset = frame.f_code, frame.f_lasti
        borrower = _thread.reference
        waits_plainly = lease is None and not pre_ping
        if lease is None:
            lease = make_lease(self)
        waiter = ThreadWaiter(lease, borrower)
        has_queued = 0.0
        try:
            if waits_plainly:
                patience = queue_up(self, waiter, retry_num, retry_interval, timeout)
                if patience is not None:
                    if waiter.wait(patience) and lend_given(self, lease, waiter, place, offset):
                        return lease
                    has_queued = monotonic() - waiter.since
            request = CheckoutRequest(self, retry_num, retry_interval, pre_ping, timeout, borrower, place, offset)
            request.began_before(has_queued)
        except BaseException:
            withdraw(self, lease, waiter)  # it may have a connection already
            raise
        borrow = checkout(self, lease, waiter, request)
        answer: Any = None
        try:
            while (step := borrow.send(answer)) is not None:
                answer = waiter.wait(step) if type(step) is float else step.call()  # type: ignore[union-attr]
        except BaseException:
            borrow.close()
            withdraw(self, lease, waiter)
            raise
        return lease

    # -- giving back ---------------------------------------------------------------------------------------

    # The lease's `Home`: functions of another file, assigned and not wrapped, because each call costs time here.
    _give_back = checkin.give_back
    _give_to_next = checkin.give_to_next
    _after_return = checkin.after_return
    _detach = checkin.detach

    def give_back(self, connection: Connection, exception: BaseException | None = None) -> None:
        """Return `connection` after `exception`: as `connection.close()`, for callers that know the error that
        occurred.

        Raises:
            ReturnConnectionToPoolError: it has been given back already, or it is not of this pool.
        """
        if connection._pool is not self:
            owner = "no pool" if connection._pool is None else f"pool({connection._pool.name})"
            raise ReturnConnectionToPoolError(
                f"this connection is of {owner}, not of pool({self.name}); nothing was done"
            )
        connection.give_back(exception, _getframe(1))

    def owns(self, connection: Connection) -> bool:
        """Whether `connection` was lent by this pool."""
        return connection._pool is self

    # -- the pool's own life -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Renew all connections without refusing a call: idle ones now, lent ones at their return or their loss."""
        if not self._here[0]:
            self._enter_process()
        if self._lock.put_off(self.drain):
            return
        self._expire_generation(self._ledger.generation)
        maintenance.reclaim_leaked(self, look_for_dead_borrowers=True)
        self._close_expired()

    def scope(self) -> AbstractContextManager[RequestScope]:
        """`with pool.scope() as scope:` for work that is not a request: a script, a thread, a job. `scope.connection()`
        borrows at its first call; the connection goes back when the block ends."""
        from .request_scope import request_scope  # built on pools; a program that opens no scope never needs it

        return request_scope(self)

    def resize(self, size: int, maxsize: int) -> None:
        """Change the bounds. Lent connections beyond the new `maxsize` are closed at their return.

        Raises:
            SettingsError: a bound is no whole number, `maxsize` is less than 1, or `size` is larger than `maxsize`.
        """
        settings.Settings(size=size, maxsize=maxsize)
        if not self._here[0]:
            self._enter_process()
        if self._lock.put_off(self.resize, size, maxsize):
            return
        self._wake(self._lock.step(self._resize_locked, size, maxsize))
        self._close_expired()

    def _resize_locked(self, size: int, maxsize: int) -> list[Waiter]:
        self._ledger.resize(size, maxsize)
        return self._grant_locked()

    def close(self, timeout: float = 10.0) -> None:
        """End the pool: it lends nothing more, and waiters fail at once. May be called again. Inside a step of the
        pool, as from a signal handler, it returns at once and the pool closes after that step.

        Args:
            timeout: seconds to wait for the return of lent connections; those not returned by then are cut off.
        """
        settings.seconds("timeout", timeout, None)
        if not self._here[0]:
            self._enter_process()
        if self._lock.put_off(self.close, timeout):
            return
        failed = self._lock.step(self._begin_to_close_locked)
        if failed is None:
            return
        self._wake(failed)
        deadline = monotonic() + timeout
        if self._life.maintenance is not None:
            self._life.maintenance.stop()
        self._close_idle(lambda slot: Reason.POOL_CLOSED)
        while self._ledger.total and monotonic() < deadline:
            maintenance.reclaim_leaked(self, look_for_dead_borrowers=True)
            self._close_idle(lambda slot: Reason.POOL_CLOSED)  # connections that maintenance has reserved
            if self._ledger.total:
                self._life.a_lease_ended.wait(min(LOOK_AROUND, max(0.0, deadline - monotonic())))
        for owner, slot in self._lock.step(self._take_borrowed_locked):
            slot.wire.cut()
            self._discard(owner, slot, Reason.POOL_CLOSED)
        self._lock.step(self._end_locked)

    def _take_borrowed_locked(self) -> list[tuple[MaintenanceLease, Slot]]:
        taken = []
        for slot in self._ledger.borrowed():
            owner = MaintenanceLease()
            taken.append((owner, slot))
            self._ledger.close(slot, owner, Reason.POOL_CLOSED)
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:
        if "_here" not in self.__dict__ or not self._here[0]:
            return
        try:
            if observed.at_end is not None and not is_finalizing():
                observed.at_end(self)
            for slot in self._ledger.slots():
                if slot.wire is not None:
                    slot.wire.close(quiet=slot.state is IDLE)
        except TypeError:
            if not is_finalizing():  # then the names of modules may be gone already, and the system closes the sockets
                raise
        finally:
            if not is_finalizing():
                registry.forget(self)

    @property
    def label(self) -> str:
        """A name for metrics, the same in every process and without a user or a path: the pool's own `name`, else
        host:port/database."""
        return log_fields.label(self)

    # -- numbers -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it lends: from its first connection until `close`."""
        return self._life.state is PoolState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def settings(self) -> Settings:
        """The options it was made with. `resize` changes the bounds in `stats()`, not here."""
        return self._settings

    @property
    def size(self) -> int:
        """Connections available now (as in pymysql-pool); the configured size is `stats().size`."""
        return len(self._ledger.idle)

    available_num = size

    @property
    def maxsize(self) -> int:
        """The bound on connections; `resize` changes it."""
        return self._ledger.maxsize

    @property
    def connection_num(self) -> int:
        """All connections, used and available."""
        return self._ledger.total

    total_num = connection_num

    def stats(self) -> PoolStats:
        """The pool's numbers at this instant."""
        if not self._here[0]:
            self._enter_process()
        return diagnostics.numbers(self)

    def borrowers(self) -> list[Borrower]:
        """The holders of connections at this moment, the longest first."""
        return diagnostics.borrowers(self)

    def events(self) -> list[PoolEvent]:
        """The last 20 discards, failed connects and borrows that got no connection, the latest first."""
        return diagnostics.events(self)

    def __repr__(self) -> str:
        now = self.stats()
        counts = f"in_use={now.in_use} idle={now.idle} waiting={now.waiting}"
        return f"<ConnectionPool {self.name!r} {self._life.state.value} size={now.total}/{now.maxsize} {counts}>"
