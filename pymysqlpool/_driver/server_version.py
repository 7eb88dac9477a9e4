"""The server's version. Owns: the parsing of a greeting's version text. Never: decides what follows from it."""

from __future__ import annotations

import re
from functools import cache


@cache
def server_version(text: str) -> tuple[tuple[int, ...], bool]:
    """The numbers of a greeting's version, and whether it is MariaDB's (which may be "5.5.5-10.11.6-MariaDB")."""
    is_mariadb = "mariadb" in text.lower()
    if is_mariadb and text.startswith("5.5.5-"):
        text = text.removeprefix("5.5.5-")
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3]), is_mariadb
