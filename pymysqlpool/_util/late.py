"""Regular expressions that are compiled at their first use.

Compiling those of this package takes longer than loading its code, and a program seldom needs more than a few.

Owns: when an expression is compiled. Never: changes what it matches.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr


class LatePattern:
    """Its methods are those of the compiled pattern, kept as attributes: from the second use on they cost the same."""

    def __init__(self, text: Any, flags: int) -> None:
        self._how = text, flags

    def __getattr__(self, name: str) -> Any:
        compiled: re.Pattern[Any] = re.compile(*self._how)
        value = getattr(compiled, name)  # `re` keeps what it compiled
        self.__dict__[name] = value
        return value


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """As `re.compile`, with errors in `text` found at the first use."""
    return LatePattern(text, flags)  # type: ignore[return-value]
