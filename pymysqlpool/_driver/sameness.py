"""Which SET leaves a session as its recipe made it.

SQLAlchemy sends SET NAMES on each connection, other libraries set the time zone or the isolation level; where that is
the pool's own setting, nothing needs to be undone.

Owns: the few forms of SET that are understood to their last byte, the values that they are compared with, and how those
are asked for. Never: evaluates an expression: only literals are compared.

Sources: MySQL 9 Reference Manual, 15.7.6.1 "SET Syntax for Variable Assignment", 15.7.6.3 "SET NAMES"; MariaDB
Knowledge Base, "SET", "SET NAMES", "SET TRANSACTION".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymysql.constants import COMMAND

from .._util.late import pattern
from .commands import Command

# Those that have nothing to do with another variable, and whose value SHOW VARIABLES shows as SET takes it.
_VARIABLES: Final = (
    "time_zone",
    "sql_mode",
    "transaction_isolation",
    "tx_isolation",
    "foreign_key_checks",
    "unique_checks",
    "sql_auto_is_null",
    "sql_safe_updates",
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
    "wait_timeout",
    "net_read_timeout",
    "net_write_timeout",
    "group_concat_max_len",
)
_CHARACTER_SET: Final = (
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
)
QUESTION: Final = "SHOW SESSION VARIABLES WHERE Variable_name IN ({})".format(
    ", ".join(f"'{name}'" for name in (*_VARIABLES, *_CHARACTER_SET))
).encode()

_LONGEST = 200  # bytes
_NAMES = pattern(r"set names ['\"]?(\w++)['\"]?(?: collate ['\"]?(\w++)['\"]?)?")
_ASSIGNMENT = pattern(
    r"set (?:session |local |@@session ?\. ?|@@local ?\. ?|@@)?(\w++) ?:?= ?"
    r"(?:'([^'\\]*+)'|\"([^\"\\]*+)\"|([\w+.-]++))"
)
_ISOLATION = pattern(
    r"set (?:session|local) transaction isolation level "
    r"(read uncommitted|read committed|repeatable read|serializable)"
)
_SWITCHES: Final = {"on": "on", "1": "on", "true": "on", "off": "off", "0": "off", "false": "off"}


class Sameness:
    """The settings of a pool's sessions, as one of them showed them."""

    __slots__ = ("_names", "_values", "is_asked_for")

    def __init__(self, names: tuple[str, str | None] | None = None, values: Mapping[str, str] | None = None) -> None:
        """
        Args:
            names: the character set and collation that SET NAMES has given the sessions; None: it was not the last
                word about them.
            values: of the variables in `QUESTION`; None: not known yet, so nothing is the same.
        """
        self._names = names
        self._values = None if values is None else {name: value.lower() for name, value in values.items()}
        self.is_asked_for = False  # a statement came whose reset the known values could have saved

    def holds_after(self, statement: bytes) -> bool:
        """Whether `statement` sets a session to what it is set to."""
        if len(statement) > _LONGEST or statement[:3].lower() != b"set" or not statement.isascii():
            return False
        text = " ".join(statement.decode("ascii").rstrip("; \t\r\n").lower().split())
        names, isolation, assignment = _NAMES.fullmatch(text), _ISOLATION.fullmatch(text), _ASSIGNMENT.fullmatch(text)
        if assignment is not None and assignment[1] not in _VARIABLES:
            assignment = None
        if self._values is None:
            self.is_asked_for |= bool(names or isolation or assignment)
            return False
        if names is not None:
            return names.groups() == self._names
        if isolation is not None:
            level = isolation[1].replace(" ", "-")
            return level == self._values.get("transaction_isolation", self._values.get("tx_isolation"))
        if assignment is None:
            return False
        value = self._values.get(assignment[1])
        said = assignment[2] or assignment[3] or assignment[4] or ""
        return value is not None and (said == value or _SWITCHES.get(said, said) == value)


def values_in(rows: object) -> dict[str, str]:
    """Return the answer to `QUESTION`; empty where it is not understood."""
    if not isinstance(rows, tuple):
        return {}
    return {str(row[0]).lower(): row[1] for row in rows if len(row) == 2 and isinstance(row[1], str)}


def look(connection: Any, names: str) -> tuple[bool, Sameness]:
    """Ask a session that is as new what it is set to: one round trip.

    Args:
        names: the argument of the SET NAMES that its recipe begins with.

    Returns:
        Whether the session is still as new, and the settings of all that are.
    """
    question: Command = (COMMAND.COM_QUERY, QUESTION)
    before, said, after = connection.outcomes([question, (COMMAND.COM_QUERY, f"SET {names}".encode()), question])
    values = values_in(getattr(before, "rows", None))
    is_same = not isinstance(said, Exception) and values == values_in(getattr(after, "rows", None))
    words = names.lower().split()
    found = Sameness((words[1], words[3] if len(words) > 2 else None) if is_same else None, values)
    return is_same and bool(values), found
