"""What the first session of a pool does not learn from: refusals that are news of the session itself, and an
init_command that makes its transactions READ ONLY.

Never: sends a statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .. import failures
from .._util.late import pattern

_SAYS_READ_ONLY = pattern(rb"read[\s_]*+only", re.IGNORECASE)


def raise_news(results: Sequence[Any]) -> None:
    """Raise an error among `results` that says nothing of what the server understands: the password has expired, the
    node is not ready, the server stops."""
    for result in results:
        if isinstance(result, Exception) and failures.of_connect(result, had=0.0) is not failures.SET_UP_FAILED:
            raise result


def says_read_only(init_command: bytes | None) -> bool:
    """Return whether sessions may be READ ONLY by `init_command`, so that error 1792 is the application's own."""
    return bool(init_command and _SAYS_READ_ONLY.search(init_command))
