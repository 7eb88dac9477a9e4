"""The server's init_connect: statements that it runs at a login, for users without the privilege to skip them.

No reset runs them again. So a session that needs one is closed instead, unless the recipe sets all of it again.

Owns: which init_connect is set again. Never: asks for it (`given_by_login`), decides what follows.

Sources: MySQL 9 Reference Manual, 7.1.8, "init_connect"; MariaDB Knowledge Base, the same.
"""

from __future__ import annotations

from .._util.late import pattern

_SETS_NAMES = pattern(
    r"set (?:names|(?:session )?+(?:character_set_(?:client|connection|results)|collation_connection) ?+=) ?+"
    r"['\"]?+\w++['\"]?+(?: collate ['\"]?+\w++['\"]?+)?+"
)
_SETS_AUTOCOMMIT = pattern(r"set (?:session )?+autocommit ?+= ?+\w++")


def is_set_again(said: str | bytes | None, init_command: bytes | None, sets_autocommit: bool) -> bool:
    """Whether a recipe sets again all that the server's init_connect sets.

    Args:
        said: its value; None where it is not known.
        sets_autocommit: the recipe has a SET autocommit. SET NAMES it always has.
    """
    text = (said or "") if isinstance(said, str | None) else said.decode("latin-1")
    if init_command is not None and text.encode().strip() == init_command.strip():
        return True
    statements = [" ".join(statement.split()) for statement in text.lower().split(";")]
    return all(
        not statement
        or _SETS_NAMES.fullmatch(statement) is not None
        or (sets_autocommit and _SETS_AUTOCOMMIT.fullmatch(statement) is not None)
        for statement in statements
    )
