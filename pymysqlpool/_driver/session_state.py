"""The marks of a session: what the replies show about its state.

Owns: the reading of a reply's status flags, insert id, warning count and session state information (session tracker)
into the marks of `statements`, and what each command but COM_QUERY may do. The marks of a text are read in
`statements`, what they cost at the return in `reset`. Never: reads a packet, decides.

Invariant 8 begins here: a change that a reply shows and this file does not mark would reach the next borrower.

Protocol: MySQL Internals, "OK_Packet" and "Session State Information", "SERVER_STATUS_flags_enum".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymysql.constants import COMMAND, SERVER_STATUS

from .statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, READ_ONLY, STATE, TRANSACTION, WROTE

AUTOCOMMIT_STATUS: Final = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
IN_TRANSACTION: Final = SERVER_STATUS.SERVER_STATUS_IN_TRANS
SESSION_STATE_CHANGED: Final = 0x4000
# The flags that are about the session, not about the last statement. The last is of MariaDB: ANSI_QUOTES.
SESSION_FLAGS: Final = AUTOCOMMIT_STATUS | IN_TRANSACTION | SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES | 0x8000
# A reply whose status has none of these, no warning and no insert id leaves a session without marks as it was.
TELLING: Final = IN_TRANSACTION | SESSION_STATE_CHANGED
# An effect, never a mark: a SET to what the session is set to anyway, see `sameness`.
SAME: Final = 64
# A mark beside STATE: a text that was not understood, so anything may have been done.
OPAQUE: Final = STATE | 128
MAY_BE_READ_ONLY: Final = READ_ONLY | OPAQUE & ~STATE  # what was said may make transactions READ ONLY
# A mark beside OPAQUE: a command that PyMySQL has no method for, so no reset is known to undo it. COM_SET_OPTION,
# COM_REGISTER_SLAVE and COM_CHANGE_USER stay in force.
BEYOND: Final = 512


# Of commands that are not COM_QUERY; of all others: OPAQUE | BEYOND.
EFFECT_OF_COMMAND: Mapping[int, int] = {
    COMMAND.COM_PING: NOTHING,
    COMMAND.COM_INIT_DB: DATABASE,
    COMMAND.COM_PROCESS_KILL: NOTHING,
    COMMAND.COM_STATISTICS: NOTHING,
}


def marks_after(marks: int, effect: int, status: int, warning_count: int, insert_id: int | None, message: bytes) -> int:
    """The marks of a session with these `marks`, after a reply to a statement with this `effect` (see `statements`)."""
    if status & IN_TRANSACTION:
        marks |= TRANSACTION
    else:
        marks &= ~(TRANSACTION | WROTE)
    foreseen = effect & (AUTOCOMMIT | DATABASE | SAME)
    if status & SESSION_STATE_CHANGED and not foreseen and tells_of_state(message):
        marks |= STATE
    if insert_id:
        marks |= INSERT_ID
    if warning_count:
        marks |= STATE  # SHOW WARNINGS would show them to the next borrower; no statement clears them
    return marks


def tells_of_state(message: bytes) -> bool:
    """Return whether the session state information in an OK packet reports a difference from a new session.

    After the text (length-encoded) comes the length of all entries, then each: type, length, data. Data that is not
    understood to its last byte counts as such a difference.
    """
    try:
        length, at = integer(message, 0)
        length, at = integer(message, at + length)
        if at + length != len(message):
            return True
        while at < len(message):
            if message[at] not in _NO_STATE:
                return True
            length, at = integer(message, at + 1)
            at += length
    except IndexError:
        return True
    return at != len(message)


def integer(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer at `at`, and where it ends."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    width = _WIDTHS[first - 0xFC]  # 0xFB and 0xFF begin none
    if at + 1 + width > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


_WIDTHS = (2, 3, 8)
# GTIDS, TRANSACTION_CHARACTERISTICS and TRANSACTION_STATE are about transactions, which the status flags tell as well;
# MySQL 9 sends them with every BEGIN and COMMIT. SYSTEM_VARIABLES alone, without STATE_CHANGE (2), are what the server
# counts by itself, such as last_gtid and statement_id: a SET of one comes with a STATE_CHANGE (measured: see
# `tests/core/test_what_replies_tell.py`).
_NO_STATE = frozenset({0, 3, 4, 5})
