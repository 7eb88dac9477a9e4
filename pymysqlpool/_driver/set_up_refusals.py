"""What a refusal says while a session is set up: news of the session itself, from which a pool's first one does not
learn what the server understands; or an init_command that is wrong, or makes its transactions READ ONLY.

Never: sends a statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pymysql import err

from .. import failures
from .._util.late import pattern
from .commands import Command

_SAYS_READ_ONLY = pattern(rb"read[\s_]*+only", re.IGNORECASE)


def raise_news(results: Sequence[Any]) -> None:
    """Raise an error among `results` that says nothing of what the server understands: the password has expired, the
    node is not ready, the server stops."""
    for result in results:
        if isinstance(result, Exception) and failures.of_connect(result, had=0.0) is not failures.SET_UP_FAILED:
            raise result


def accepted(commands: Sequence[Command], results: list[Any], init_command: bytes | None) -> list[Any]:
    """Return the `results` of `commands`, or raise the first error; that of init_command with its name."""
    for (_, text), result in zip(commands, results, strict=True):
        if isinstance(result, err.MySQLError):
            if text is init_command:
                number, said = result.args
                result.args = (number, f"init_command: {said}")
            raise result
    return results


def says_read_only(init_command: bytes | None) -> bool:
    """Return whether sessions may be READ ONLY by `init_command`, so that error 1792 is the application's own."""
    return bool(init_command and _SAYS_READ_ONLY.search(init_command))
