"""Work on a session before it is lent, within a deadline: a ping that may be given up, and the user's `on_checkout`.

Never: chooses a deadline, decides what follows from a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND

from ..errors import ConnectionInterruptedError
from .commands import pack
from .deadline import LIMITS, limits, remaining
from .protocol.packets import ERR
from .protocol.reply import reply
from .wire import Wire

_LOOK = 0.05  # seconds; how often `give_up` is asked


def ping(wire: Wire, deadline: float, give_up: Callable[[], bool]) -> None:
    """Ask the server of the quiet `wire` for an answer, before `deadline` (monotonic), or until `give_up` says so.

    Raises:
        Exception: there was none, or another one than that all is well; the session's state is unknown.
    """
    if not wire.exchange.acquire(False):
        raise ConnectionInterruptedError("another thread is using it")
    source = wire.source
    source.sequence = 1
    wire.sock.sendall(pack(COMMAND.COM_PING))
    while not wire.readable(min(_LOOK, remaining(deadline)) * 1000):
        if give_up():
            raise TimeoutError("given up")
    source.refill(deadline)
    answer = source.run(reply(source, "", True, {}, True, only_ok=True), deadline)
    if type(answer) is ERR:
        raise answer.exception
    if source.position != len(source.buffer):
        raise err.InternalError("the reply to a ping is followed by something else")
    wire.sock.settimeout(wire.timeout)
    wire.exchange.release()


def call_hook(hook: Callable[[Any], object], handle: Any, wire: Wire, deadline: float) -> None:
    """Call `hook` with `handle`, a lease of the session of `wire` which may be unused. What it sends is bounded by
    `deadline` (monotonic); a hook that sends nothing leaves the lease unused."""
    handle.__dict__.update(limits(handle, deadline))
    try:
        hook(handle)
    finally:
        attributes = handle.__dict__  # those of the session, if it was used
        for name in LIMITS:
            attributes.pop(name, None)
        if attributes.get("_sock") is wire.sock:
            wire.sock.settimeout(wire.timeout)
            attributes["_current_timeout"] = wire.timeout
