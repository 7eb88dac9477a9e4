"""The first step of a borrow: lend the connection that was returned last, if one is idle and no caller waits.

One of the two lock-free steps of the pool; the other is `idle_lease.UnusedLease.close`, where it is said what both
promise. It has a file of its own because a pool's class needs it, and the classes of connections are loaded with the
first pool (`_util/late.py`).

Owns: `get_connection`, as long as nothing has to be waited for. Never: waits, connects.

Invariants that live here: 2 (nothing idle beside a waiter), 3 (one hand-over), 13 (fork).
"""

from __future__ import annotations

import sys
from time import monotonic

from .._driver.usage import SOCKET_CHECK_INTERVAL
from .._util import callsite, late
from .._util.log import DEBUG, logger
from .slot import IN_USE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .lease import Connection
else:
    late.names(globals(), "pymysqlpool._pool", "lease:Any,Connection")  # for tools that look annotations up

_getframe = sys._getframe
_thread = callsite.local

# In place of `retry_num`: lend what is idle and looks fit, without blocking, or return `NotLent`.
AT_ONCE: Any = object()


class NotLent:
    """What a borrow `AT_ONCE` returns instead of a connection."""

    __slots__ = ("lease",)
    _slot = None  # as of a lease that has ended

    def __init__(self, lease: Connection | None) -> None:
        self.lease = lease  # that is in hand, and `checkout` has to see whether it is fit; None: there was none


class FirstStep:
    """A pool's `get_connection`."""

    def get_connection(
        self: Any,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
    ) -> Connection:
        """Borrow a connection. Give it back with `close()`, or use it as a context manager.

        When none is idle and `size` is reached, the call waits for a return, in order of arrival. After the patience
        (`retry_num * retry_interval`) it opens a new connection if `maxsize` allows.

        Args:
            retry_num, retry_interval: the patience is their product, in seconds.
            pre_ping: ask the server before lending: always (True), or when it was idle for longer than so many seconds.
                Dead sockets are found without it.
            timeout: seconds that bound everything: waiting, connecting (handshake included), checking. Default is the
                pool's `timeout`; without either, the patience bounds the waiting and `connect_timeout` the rest.

        Raises:
            PoolTimeout: none was returned in time and `maxsize` is reached.
            PoolDeadlock: a PoolTimeout, with `deadlock="raise"`: all that hold a connection wait for another.
            PoolUnavailable: the server could not be reached in time; the cause is the last connect error.
            PoolOverloaded: more than `max_waiting` callers wait already.
            PoolClosed: the pool is closed.
            pymysql.err.Error: the server refused the login or the set-up; waiting would not help.
            SettingsError: `retry_num` or `retry_interval` is not a number, or negative.

        The five `Pool...` errors are `GetConnectionFromPoolError`, which is a `pymysql.err.OperationalError`.
        """
        if self._here[0]:
            ledger = self._ledger
            if ledger.lock_free:
                try:
                    lease: Connection = ledger.idle.pop()
                except IndexError:
                    pass  # and out of this handler, whose error would be the context of all that follow
                else:
                    slot: Any = lease._slot
                    lease._pool = self
                    slot.borrower = slot.user = _thread.reference
                    slot.lent += 1
                    now = monotonic()
                    if now >= slot.fresh_until or pre_ping or self._has_checkout_hooks or self._verbose:
                        if (
                            pre_ping
                            or self._has_checkout_hooks
                            or now >= slot.expires_at
                            or now - slot.role_known > self._asks_role_after
                            or (wire := slot.wire) is None  # close() has cut it off at this moment
                            or wire.exchange.locked()
                            or wire.readable(0)
                            or logger.isEnabledFor(DEBUG)
                        ):
                            slot.state = IN_USE
                            return self._borrow_slowly(lease, retry_num, retry_interval, pre_ping, timeout)  # type: ignore[no-any-return]
                        slot.fresh_until = now + SOCKET_CHECK_INTERVAL
                    slot.since = now
                    frame = _getframe(1)
                    slot.place = frame.f_code
                    slot.offset = frame.f_lasti
                    slot.state = IN_USE
                    return lease
        else:
            self._enter_process()
        return self._borrow_slowly(None, retry_num, retry_interval, pre_ping, timeout)  # type: ignore[no-any-return]
