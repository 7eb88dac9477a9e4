"""The error of a server that closed the connection because a statement was too large.

A server refuses a statement larger than its `max_allowed_packet` with an error packet, and hangs up while the rest of
it is still coming: sending fails then, before the reply is read. A retry would fail in the same way, so it must not
look like a lost connection. The packet is in the socket's buffer, unless the reset that follows it has overtaken it:
then the limit that the server gave at the login tells.

Owns: reading that packet, and saying what it says. Never: blocks, closes the socket.

Protocol: MySQL Internals, "ERR_Packet"; error 1153, ER_NET_PACKETTOO_LARGE.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymysql import err
from pymysql.constants import CR

TOO_LARGE = 1153
_ENOUGH = 512  # bytes; more than the packet has


def is_hang_up(error: BaseException | None) -> bool:
    """Return whether `error` is that of a connection which the other side has ended."""
    if isinstance(error, err.OperationalError):
        return error.args[0] in (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)


def too_large(sock: Any, length: int, limit: int) -> err.OperationalError | None:
    """Return the refusal of a statement that was too large, if it comes next on `sock`, which has failed, or if
    `length`, that of the statement in bytes where it is a large one, reaches the `limit`."""
    received = b""
    with suppress(OSError, ValueError):  # nothing to read; closed
        sock.settimeout(0)
        received = sock.recv(_ENOUGH)
    number = int.from_bytes(received[5:7], "little")
    if received[4:5] == b"\xff" and number == TOO_LARGE:
        text = received[13:].decode("utf-8", "replace")
    elif length >= limit:
        text = f"Got a packet of {length} bytes; 'max_allowed_packet' is {limit}"
    else:
        return None
    return err.OperationalError(TOO_LARGE, f"{text} (the server's limit for a statement, or for a row of its data)")
