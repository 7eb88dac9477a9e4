"""The end of a task's lease: the usual return in one step, and the others.

Owns: the order of events before the pool takes the connection back. Never: decides whether a connection is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pymysql import err
from pymysql.constants import CR

from .._driver import steps as _steps
from .._driver.exchange import is_between_commands
from .._pool.lease import Connection
from .._pool.quick_return import give_back_unchanged
from .._util import callsite
from .._util.callsite import passed_over
from ..errors import ReturnConnectionToPoolError
from .turn import Turn
from .worker import ThreadCall, ThreadsafeEvent

_getframe = sys._getframe


class Home(Protocol):
    """What an `AsyncConnection` needs from its pool; `aio.AsyncConnectionPool` implements it."""

    pool: Any
    kill_on_cancel: bool

    @property
    def name(self) -> str: ...
    async def run(self, thread_call: ThreadCall, users: bool = False) -> Any: ...
    def give_back_nowait(self, lease: Connection, give_back: Callable[[], object]) -> ThreadsafeEvent | None: ...
    def give_back_interrupted(self, give_back: Callable[[], object]) -> None: ...
    def kill(self, lease: Connection) -> None: ...


class Returning:
    """The part of an `AsyncConnection` that returns it."""

    lease: Connection
    floats: bool
    given_back: callsite.Place | None
    _pool: Home
    _turn: Turn
    _thread_call: ThreadCall | None
    _was_cut: bool
    # of `AsyncConnection`
    _refuse_closed: Callable[[], None]
    _cut: Callable[[], None]

    async def close(self) -> None:
        """Return the connection to the pool. A statement of another task that is under way is cut off.

        Raises:
            ReturnConnectionToPoolError: the connection was returned before.
        """
        frame = _getframe(1)
        place: Any = frame.f_code
        if passed_over(id(place)) is False:  # as `callsite.of`, without the call
            offset = frame.f_lasti
        else:
            place, offset = callsite.of(frame)
        if not self.returns_unchanged(place, offset):
            self._refuse_closed()
            await self.give_back(None)

    def returns_unchanged(self, place: Any, offset: int) -> bool:
        """Return it if it is as it was lent, so that nothing has to wait. False: nothing was done.

        Args:
            place, offset: the call site of the return, as `callsite.of` tells it.
        """
        if self._was_cut or self.given_back is not None or self.floats or self._turn.is_taken:
            return False
        if self._thread_call is not None or not give_back_unchanged(self.lease, place, offset):
            return False
        self.given_back = place, offset
        return True

    async def give_back(self, exception: BaseException | None) -> None:
        """Return it after `exception`; a second call does nothing. The return is under way before the first await."""
        returned = self.give_back_nowait(partial(self._give_back, exception))
        if returned is not None:
            await returned.wait()

    def give_back_nowait(
        self, give_back: Callable[[], object], place: callsite.Place | None = None
    ) -> ThreadsafeEvent | None:
        """Start the return; a worker thread may complete it. See `AsyncConnectionPool.give_back_nowait`.

        Args:
            place: the call site of the return; None: the innermost one outside this package.
        """
        if self._was_cut or self.given_back is not None:
            return None
        self.given_back = place or callsite.place()
        if self._thread_call is not None and self._thread_call.abandon(self._cut):
            return None
        if self._turn.is_taken:  # a task waits for a reply
            session = _steps.watch_of(self.lease)
            if session is not None:
                session.fail(err.OperationalError(CR.CR_SERVER_LOST, "the connection was given back meanwhile"))
        return self._pool.give_back_nowait(self.lease, give_back)

    def _give_back(self, exception: BaseException | None) -> None:
        try:  # noqa: SIM105 - `suppress` costs more than the rest
            self.lease.give_back(exception, callsite.Spot(self.given_back) if self.given_back else _getframe())
        except ReturnConnectionToPoolError:
            pass  # another thread has returned it first

    def _give_back_interrupted(self) -> None:
        """Return the cut connection. Called by the last user of it, after the interrupted call has ended."""
        if self._pool.kill_on_cancel and not is_between_commands(self.lease):
            self._pool.kill(self.lease)
        self._give_back(err.OperationalError(CR.CR_SERVER_LOST, "cut off, because its task was cancelled"))
