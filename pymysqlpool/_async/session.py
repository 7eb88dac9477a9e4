"""`Session`: the I/O of one connection on the running event loop.

A `Session` receives when the socket is readable (`Watched`), feeds the protocol core (`_driver/protocol`) and continues
the task that waits for the reply (`Pending`). It belongs to one socket and one loop, outlives leases, and ends
with the socket:

* It sends and receives with MSG_DONTWAIT, so the socket stays in blocking mode: a thread that uses the same connection
  between two exchanges finds it unchanged. (TLS has no such flag: a TLS socket is non-blocking for the duration of an
  exchange.)
* Bytes that arrive while no exchange of this loop is under way stay in the socket: they are for a thread, or they are
  the server's close. The watch is removed until the next exchange.

All sessions of a loop share one time slice for decoding (`decoding.py`).

Never: interprets a reply, returns a connection, closes a socket.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from types import GeneratorType
from typing import Any

from pymysql import err
from pymysql.constants import CR

from .._driver.protocol.packets import LOST
from .clock import clock_of
from .decoding import turns_of
from .pending import Pending
from .sending import send_rest
from .watched import Watched

ROWS = 100  # decoded in one step
_SHORT = 4 * 1024  # bytes, which are decoded in 0.1 ms
_SEGMENT = 64 * 1024  # bytes
_LARGEST_SEGMENT = 256 * 1024
DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Session(Watched):
    """Sends and receives over one socket on one loop."""

    __slots__ = (
        "_blocking_timeout",
        "_clock",
        "_decodes",
        "_future",
        "_is_tls",
        "_last_received",
        "_missing",
        "_parts",
        "_segment",
        "_source",
        "_steps",
        "_timeout",
        "_timer",
        "_turns",
        "_waits",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: Any, source: Any) -> None:
        """Raises NotImplementedError if the loop cannot watch descriptors, as Windows' Proactor loop cannot."""
        self._source = source
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        # Of the current exchange: the protocol generator, or a function that reads the reply, if that is there as a
        # whole, or returns the generator that will. None: no exchange.
        self._steps: Any = None
        self._future: Pending | None = None
        self._waits = False  # the exchange waits for bytes
        self._decodes = False  # queued for a decoding turn
        self._parts: list[bytes] = []  # received, but too few bytes for the next step
        self._missing = 0
        self._segment = _SEGMENT
        self._timer: asyncio.TimerHandle | None = None
        self._timeout = 0.0
        self._last_received = 0.0  # monotonic: the last receipt of bytes; kept only with a timeout
        self._blocking_timeout: float | None = None  # seconds: a TLS socket's timeout between two exchanges
        self._turns = turns_of(loop)
        self._clock = clock_of(loop)
        super().__init__(loop, sock)

    def has_had_its_share(self) -> bool:
        """Whether the loop should run other tasks now."""
        return self._turns.is_over(self._loop)

    @property
    def is_done(self) -> bool:
        """Whether the reply was read to its end, even if no task waits for it any more."""
        return self._steps is None

    def answers(self) -> list[Any]:
        """The result of the last exchange as a list of one item; empty if the reply was not read to its end."""
        future = self._future
        return [future.result()] if future is not None and future.has_arrived else []

    # -- an exchange ---------------------------------------------------------------------------------------

    def exchange(self, data: bytes, steps: Any, timeout: float | None) -> Any:
        """Send `data`, run `steps` (as in `_steps`) over the reply, and return an awaitable of the result.

        Args:
            timeout: seconds without a byte from the server after which the exchange fails.
        """
        self._future = None
        try:
            if self._is_tls:
                self._switch_over()
                sent = self._send(data)
            else:  # as `_send`, without the call
                try:
                    sent = self._socket.send(data, DONTWAIT)
                except _NOT_NOW:
                    sent = 0
        except OSError as error:
            self._restore()
            raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error
        if sent < len(data):
            return self._exchange_in_pieces(memoryview(data)[sent:], steps, timeout)
        if timeout is not None or not self._is_watched:
            return self._begin(steps, timeout)
        # As `_begin`, without the call.
        self._steps = steps
        self._waits = True
        self._segment = _SEGMENT
        self._timeout = 0.0
        future = self._future = Pending(self._loop)
        return future

    def read_on(self, steps: Any, timeout: float | None) -> Any:
        """Run `steps` over the bytes received so far and those to come; returns an awaitable."""
        if self._is_tls:
            self._switch_over()
        future = self._begin(steps, timeout)
        self._waits = False
        self.decode()
        return future

    def _begin(self, steps: Any, timeout: float | None) -> Any:
        if not self._is_watched:
            self._watch()
        self._steps = steps
        self._waits = True
        self._segment = _SEGMENT
        if timeout is not None:
            self._timeout = timeout
            self._last_received = now = self._loop.time()
            if self._timer is None or self._timer.when() > now + timeout:
                self._stop_timer()
                self._timer = self._loop.call_later(timeout, self._time_out)
        else:
            self._timeout = 0.0
        future = self._future = Pending(self._loop)
        return future

    def _send(self, data: Any) -> int:
        """Send as many bytes as the socket takes now."""
        try:
            sent: int = self._socket.send(data) if self._is_tls else self._socket.send(data, DONTWAIT)
            return sent
        except _NOT_NOW:
            return 0

    async def _exchange_in_pieces(self, rest: memoryview, steps: Any, timeout: float | None) -> Any:
        await send_rest(self._loop, self._descriptor, self._send, rest, timeout, self._let_threads_wait)
        return await self._begin(steps, timeout)

    def abandon(self) -> None:
        """Give up the exchange; its connection must be discarded."""
        self._end()
        self._stop_timer()
        self._unwatch()

    # -- what comes ----------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if not self._waits:
            if not self._decodes:
                self._unwatch()
            return
        try:
            data = self._socket.recv(self._segment) if self._is_tls else self._socket.recv(self._segment, DONTWAIT)
        except _NOT_NOW:
            return
        except OSError as error:
            self._fail(error)
            return
        if not data:
            self._fail(err.OperationalError(CR.CR_SERVER_LOST, LOST))
            return
        if self._timeout:
            self._last_received = self._loop.time()
        if self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if len(data) == self._segment < _LARGEST_SEGMENT:
                self._segment *= 2
            if self._missing > 0:
                if self._is_tls:
                    self._loop.call_soon(self._readable)  # the same TLS record may have held more bytes
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._missing = 0
        source = self._source
        source.buffer = data
        source.position = 0
        if len(data) > _SHORT and (self._turns.queue or self._turns.is_over(self._loop)):
            self._take_turn()
            return
        steps = self._steps
        if type(steps) is GeneratorType or self._is_tls or self._parts:
            self.decode()
            return
        # As `decode`, for a reply that is there as a whole.
        try:
            answer = steps()
        except BaseException as error:  # noqa: BLE001 - for the task that waits
            self._raise(error)
            return
        if type(answer) is GeneratorType:
            self._steps = answer
            self.decode()
            return
        future = self._future
        self._steps = None
        self._waits = False
        if future is not None and not future.is_done:
            self._clock.arrive(future, answer)

    def _take_turn(self) -> None:
        self._waits = False
        self._decodes = True
        self._turns.add(self, self._loop)

    def decode(self) -> None:
        """Run the steps until they need bytes that have not arrived, or have used up their share."""
        self._decodes = False
        steps = self._steps
        if steps is None:
            return  # abandoned meanwhile
        asked: Any = None
        answer: Any = None
        try:
            if type(steps) is not GeneratorType:
                answer = steps()
                if type(answer) is GeneratorType:
                    steps = self._steps = answer
                    asked = steps.send(None)
            else:
                asked = steps.send(None)
        except StopIteration as end:
            answer = end.value
        except BaseException as error:  # noqa: BLE001 - for the task that waits
            self._raise(error)
            return
        if asked is None:
            future = self._future
            self._steps = None
            self._waits = False
            if self._parts or self._is_tls:
                self._end()
            # The last step, because the task may begin another exchange; and not in a handler or a `try`: the task's
            # own exceptions are none of the reply's.
            if future is not None and not future.is_done:
                self._clock.arrive(future, answer)
            return
        if asked == 0:
            self._take_turn()
            return
        if type(asked) is not int:
            self._raise(TypeError(f"the reply asks for {asked!r}"))
            return
        source = self._source
        rest = source.buffer[source.position :]
        source.buffer = b""
        source.position = 0
        if rest:
            self._parts.append(rest)
        self._missing = asked - len(rest)
        self._waits = True
        if self._is_tls:
            self._readable()  # bytes that TLS has already decrypted do not make the descriptor readable

    def fail(self, error: Exception) -> None:
        """End the current exchange, if there is one, with `error`."""
        if self._steps is not None:
            self._fail(error)

    def _lost(self) -> None:
        self._stop_timer()
        self.fail(err.OperationalError(CR.CR_SERVER_LOST, LOST))

    def _fail(self, error: BaseException) -> None:
        """Throw a socket error into the steps, which may translate it."""
        if type(self._steps) is GeneratorType:
            try:
                self._steps.throw(error)
            except BaseException as raised:  # noqa: BLE001 - for the task that waits
                error = raised
        self._raise(error)

    def _raise(self, error: BaseException) -> None:
        future = self._future
        self._end()
        if future is not None and not future.is_done:
            future.set_exception(error)

    def _time_out(self) -> None:
        """The timer is over. One serves many exchanges: it is set again while one is under way, else by the next."""
        self._timer = None
        if self._steps is None or not self._timeout:
            return
        left = self._last_received + self._timeout - self._loop.time()
        if left > 0 or not self._waits:
            self._timer = self._loop.call_later(max(left, 0.001), self._time_out)
        else:
            self._fail(TimeoutError("timed out"))

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _end(self) -> None:
        self._steps = None
        self._waits = False
        self._missing = 0
        if self._parts:
            self._parts.clear()
        if self._is_tls:
            self._restore()

    def _switch_over(self) -> None:
        self._blocking_timeout = self._socket.gettimeout()
        self._socket.settimeout(0)

    def _restore(self) -> None:
        if self._is_tls:
            with suppress(OSError):  # closed meanwhile
                self._socket.settimeout(self._blocking_timeout)
