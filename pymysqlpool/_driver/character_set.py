"""The character set in which the server reads a session's statements, after a set-up of the user's own.

`SET NAMES gbk` in an `init_command` or an `on_connect` changes it, and PyMySQL's attributes do not show it. A statement
read in another character set than the server's may hide a quote: what is a string to one is a call to the other
(Invariant 8). So the server is asked, unless all that was said leaves the character set alone as far as its text tells.

Owns: that question, and which statements need none. Never: decides when a session is set up.
"""

from __future__ import annotations

from typing import Any, Final

from pymysql.constants import COMMAND

from .._util.late import pattern
from .commands import Command
from .exchange import WireConnection
from .statements import STATE, ReadStatement, read_as_anything, reader_for

_WHICH: Command = (COMMAND.COM_QUERY, b"SELECT @@character_set_client")
_LONGEST: Final = 1024  # bytes of a statement that is looked at
# To literals, of any variables but those of the character sets.
_ASSIGNMENT = (
    r"(?:session |local |@@(?:session\.|local\.)?|@)?(?!char|coll|names)\w++ ?:?= ?"
    r"(?:'[^'\\]*+'|\"[^\"\\]*+\"|[\w+.-]++)"
)
_LEAVES_IT = pattern(
    rf"set {_ASSIGNMENT}(?: ?, ?{_ASSIGNMENT})*+|set (?:session |local )?transaction isolation level [a-z ]++"
)


def leaves_it(statement: bytes | None) -> bool:
    """Whether `statement`, which is not known to be harmless, is a SET of something else; None: there is none."""
    if statement is None:
        return True
    if len(statement) > _LONGEST or not statement.isascii():
        return False
    text = " ".join(statement.decode("ascii").rstrip("; \t\r\n").lower().split())
    return _LEAVES_IT.fullmatch(text) is not None


def asked(connection: WireConnection) -> ReadStatement:
    """Ask the server: what reads the statements of this session. One round trip."""
    (answer,) = connection.outcomes([_WHICH])
    rows: Any = getattr(answer, "rows", None)
    if not rows or not isinstance(rows[0][0], str):
        return read_as_anything
    return reader_for(rows[0][0], connection.server_version).read


class Watch:
    """Watches what `on_connect` says on its connection."""

    def __init__(self, connection: WireConnection, in_doubt: bool) -> None:
        """
        Args:
            in_doubt: the character set is in doubt already.
        """
        self._in_doubt = in_doubt
        self._read: ReadStatement = connection._read_statement
        connection._read_statement = self._read_watched

    def _read_watched(self, statement: bytes, no_escapes: int, harmless: str | None) -> int:
        effect = self._read(statement, no_escapes, harmless)
        if effect == STATE and not leaves_it(statement):
            self._in_doubt = True
        return effect

    def settle(self, connection: WireConnection) -> None:
        """`on_connect` is done: let the statements of this session be read by what is true of it now."""
        is_as_before = connection._read_statement == self._read_watched  # else set_charset() was called
        connection._read_statement = self._read if is_as_before and not self._in_doubt else asked(connection)
