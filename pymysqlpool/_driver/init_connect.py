"""The server's init_connect: statements that it runs at a login, for users without the privilege to skip them.

No reset runs them again. So a session that needs one is closed instead, unless the recipe sets all of it again.

Owns: which init_connect is set again. Never: asks for it (`given_by_login`), decides what follows.

Sources: MySQL 9 Reference Manual, 7.1.8, "init_connect"; MariaDB Knowledge Base, the same.
"""

from __future__ import annotations

from .._util.late import pattern

_SETS_NAMES = (
    r"set (?:names|(?:session )?(?:character_set_(?:client|connection|results)|collation_connection) ?=) ?"
    r"['\"]?\w++['\"]?(?: collate ['\"]?\w++['\"]?)?"
)
_SETS_AUTOCOMMIT = r"set (?:session )?autocommit ?= ?\w++"
_OVERRIDDEN = {
    autocommit: pattern(rf"(?:(?:{_SETS_NAMES}{rf'|{_SETS_AUTOCOMMIT}' if autocommit else ''}|) ?;? ?)*+")
    for autocommit in (False, True)
}


def is_set_again(said: str | bytes | None, init_command: bytes | None, sets_autocommit: bool) -> bool:
    """Whether a recipe sets again all that the server's init_connect sets.

    Args:
        said: its value; None where it is not known.
        sets_autocommit: the recipe has a SET autocommit. SET NAMES it always has.
    """
    text = (said or "") if isinstance(said, str | None) else said.decode("latin-1")
    if init_command is not None and text.encode().strip() == init_command.strip():
        return True
    return _OVERRIDDEN[sets_autocommit].fullmatch(" ".join(text.lower().split())) is not None
