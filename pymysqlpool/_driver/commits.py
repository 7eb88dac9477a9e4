"""The position of a lease's last commit: the global transaction id that the server reports in the reply to it.

Owns: what "not known" is. Never: asks the server, or waits for a position.

Invariant that lives here: a commit whose position is not known makes the token `UNKNOWN`, never None, so no read takes
a replica for one that has it.

Protocol: MySQL Internals, "Session State Information": SESSION_TRACK_GTIDS (MySQL, with session_track_gtids), and
SESSION_TRACK_SYSTEM_VARIABLES with `last_gtid` (MariaDB, with session_track_system_variables).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .session_state import integer

UNKNOWN: Final = "?"
# To be SET in a session, by whether the server is a MariaDB.
TRACKING: Final = {
    True: "session_track_system_variables = CONCAT(@@session_track_system_variables, ',last_gtid')",
    False: "session_track_gtids = OWN_GTID",
}
_VARIABLE: Final = 0  # kinds of session state information
_GTIDS: Final = 3


def commit_after(message: bytes) -> str | None:
    """The global transaction id in the session state information of a reply; None: it tells of no commit.

    Args:
        message: of a reply whose status says that there is such information. The last packet of a result set (MariaDB:
            INSERT ... RETURNING) has no room for it, so there it is unknown.
    """
    if not message:
        return UNKNOWN
    token: str | None = None
    try:
        length, at = integer(message, 0)
        _, at = integer(message, at + length)
        while at < len(message):
            kind = message[at]
            length, at = integer(message, at + 1)
            entry = message[at : at + length]
            at += length
            if kind == _GTIDS:
                size, start = integer(entry, 1)  # behind the number of the encoding
                token = entry[start : start + size].decode("ascii")
            elif kind == _VARIABLE:
                size, start = integer(entry, 0)
                if entry[start : start + size] == b"last_gtid":
                    size, start = integer(entry, start + size)
                    token = entry[start : start + size].decode("ascii")
    except (IndexError, UnicodeDecodeError):
        return UNKNOWN
    return token


def kept_after_the_end(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a handle that has ended, of which `commit_token_of` tells the same as before."""
    return {"_commit_token": commit_token_of(attributes)}


def commit_token_of(attributes: Mapping[str, Any]) -> str | None:
    """The position of the last commit of a handle; unknown while a reply is to be read, and where it was lost."""
    if attributes.get("_tracks_commits"):
        exchange = attributes["_exchange"]
        if exchange is None or exchange.locked() or attributes["_sock"] is None:
            return UNKNOWN
    return attributes.get("_commit_token")
