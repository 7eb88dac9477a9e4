"""The error packet of a server that closed the connection while a statement was being sent.

A server refuses a statement larger than its `max_allowed_packet` with an error packet, and hangs up while the rest of
it is still coming: sending fails then, before the reply is read. A retry would fail in the same way, so it must not
look like a lost connection. The packet is in the socket's buffer all the same.

Owns: reading that packet. Never: blocks, closes the socket.

Protocol: MySQL Internals, "ERR_Packet"; error 1153, ER_NET_PACKETTOO_LARGE.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymysql import err

TOO_LARGE = 1153
_ENOUGH = 512  # bytes; more than the packet has


def too_large(sock: Any) -> err.OperationalError | None:
    """Return the refusal of a statement that was too large, if it comes next on `sock`."""
    received = b""
    with suppress(OSError, ValueError):  # nothing to read; closed
        sock.settimeout(0)
        received = sock.recv(_ENOUGH)
    number = int.from_bytes(received[5:7], "little")
    if received[4:5] != b"\xff" or number != TOO_LARGE:
        return None
    text = received[13:].decode("utf-8", "replace")
    return err.OperationalError(number, f"{text} (the server's limit for a statement, or for a row of its data)")
