"""What replies say of the session: its marks.

Owns: the reading of a reply's status flags, insert id, warning count and session state information (session tracker)
into the marks of `statements`, and what each command but COM_QUERY may do. The marks of a text are read in
`statements`, what they cost at the return in `reset`. Never: reads a packet, decides.

Invariant 8 begins here: what a reply shows and is not marked would reach the next borrower.

Protocol: MySQL Internals, "OK_Packet" and "Session State Information", "SERVER_STATUS_flags_enum".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymysql.constants import COMMAND, SERVER_STATUS

from .statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, STATE, TRANSACTION, WROTE

AUTOCOMMIT_STATUS: Final = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
IN_TRANSACTION: Final = SERVER_STATUS.SERVER_STATUS_IN_TRANS
SESSION_STATE_CHANGED: Final = 0x4000
# A reply whose status has none of these, no warning and no insert id leaves a session without marks as it was.
TELLING: Final = IN_TRANSACTION | SESSION_STATE_CHANGED


# Of commands that are not COM_QUERY; of all others: STATE.
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
    foreseen = effect & (AUTOCOMMIT | DATABASE)
    if status & SESSION_STATE_CHANGED and not foreseen and not _tells_of_transactions_only(message):
        marks |= STATE
    if insert_id:
        marks |= INSERT_ID
    if warning_count:
        marks |= STATE  # SHOW WARNINGS would show them to the next borrower; no statement clears them
    return marks


def _tells_of_transactions_only(message: bytes) -> bool:
    """Whether the session state information in an OK packet is about transactions and GTIDs, which the status flags
    tell as well. MySQL 9 sends it with every BEGIN and COMMIT.

    After the text (length-encoded) comes the length of all entries, then each: type, length, data.
    """
    try:
        at = 1 + message[0]
        if message[0] >= 0xFB or message[at] >= 0xFB or at + 1 + message[at] != len(message):
            return False
        at += 1
        while at < len(message):
            if message[at] not in _TRANSACTION_TRACKERS or message[at + 1] >= 0xFB:
                return False
            at += 2 + message[at + 1]
    except IndexError:
        return False
    return True


_TRANSACTION_TRACKERS = frozenset({3, 4, 5})  # GTIDS, TRANSACTION_CHARACTERISTICS, TRANSACTION_STATE
