"""The roles that a login gives to a session, which COM_RESET_CONNECTION does not give back.

Owns: reading them from the server's answer. Never: asks, or sets a role. (The role of a *server* is `role`.)
"""

from __future__ import annotations

from typing import Any


def role_in(result: Any) -> bytes | None:
    """Return the argument of SET ROLE, from the answer to CURRENT_ROLE(): MariaDB gives a name or NULL, MySQL gives
    NONE or a list of quoted names."""
    rows = result.rows
    if not rows:
        return None
    role = rows[0][0]
    if role is None or role == "NONE":
        return b"NONE"
    text: str = role if isinstance(role, str) else role.decode()
    return text.encode() if text.startswith("`") else b"`" + text.encode().replace(b"`", b"``") + b"`"
