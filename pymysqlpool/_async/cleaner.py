"""`Cleaner`: the end of a lease whose session must be cleaned, on the event loop.

The pool judges the connection and says what to send (`_driver/reset.exchanges`); a `Cleaner` sends it, and calls the
pool again when the replies are there. No task is needed for it, so none can be cancelled.

Never: decides what is sent, or whether a connection is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .._driver.steps import begin_all
from .._util.callsite import Token
from .pending import Pending
from .session import Session
from .worker import ThreadsafeEvent


class Cleaner:
    """Cleans the session of one lease by `session`, within `timeout` seconds."""

    __slots__ = ("_alarm", "_exchanges", "_report", "_session", "_timeout", "_token", "ended")

    def __init__(self, session: Session, timeout: float) -> None:
        self._session = session
        self._timeout = timeout
        self._token = Token("the return of a connection")
        self.ended: ThreadsafeEvent | None = None  # set when the return has ended; None: it has not begun

    def is_here(self) -> bool:
        return self._session.is_here()

    def at_work(self) -> object | None:
        """None when its loop is closed, which will never go on with it."""
        return None if self._session.loop.is_closed() else self._token

    def begin(self, exchanges: Any, report: Callable[[BaseException | None], None]) -> None:
        self.ended = ThreadsafeEvent()
        self._exchanges = exchanges
        self._report = report
        self._alarm = self._session.loop.call_later(self._timeout, self._too_late)
        self._go_on(None)

    def _go_on(self, replies: list[Any] | None) -> None:
        try:
            handle, commands = self._exchanges.send(replies)
            data, steps = begin_all(handle, commands)
            reply = self._session.exchange(data, steps, None)
            if type(reply) is not Pending:  # the socket did not take all bytes at once
                reply = asyncio.ensure_future(reply)
        except StopIteration:
            self._end(None)
        except Exception as error:  # noqa: BLE001 - the pool's to handle
            self._end(error)
        else:
            reply.add_done_callback(self._answered)

    def _answered(self, reply: Pending | asyncio.Future[Any]) -> None:
        try:
            replies = reply.result()
        except BaseException as error:  # noqa: BLE001 - the pool's to handle
            self._end(error)
        else:
            self._go_on(replies)

    def _too_late(self) -> None:
        self._session.fail(TimeoutError(f"the session was not as new within {self._timeout} seconds"))

    def _end(self, error: BaseException | None) -> None:
        self._alarm.cancel()
        try:
            if error is not None:
                self._session.abandon()
            self._report(error)
        finally:
            assert self.ended is not None
            self.ended.set()
