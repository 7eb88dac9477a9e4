"""What waits until it is needed: regular expressions for their first use, modules for the first pool.

Compiling the expressions of this package takes longer than loading its code, and a program seldom needs more than some.
A program that imports the pool's class and makes no pool needs half of the modules. They are loaded when the first pool
is made, in one place, so no borrow, finalizer or signal handler ever imports one.

Owns: when an expression is compiled, and when those modules are loaded. Never: changes what an expression matches.
"""

from __future__ import annotations

import re
from importlib import import_module
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


_waiting: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}  # names that are not there yet, by their module


def module(names: dict[str, Any], name: str, path: str) -> None:
    """Let `name` be the module `path` in these global `names`, from the first pool on."""
    _waiting[names["__name__"], name] = names, path


def load() -> None:
    """Load the modules that wait. An import of more of this package may make others wait."""
    while _waiting:
        for key, (names, path) in list(_waiting.items()):
            names[key[1]] = import_module(path)
            _waiting.pop(key, None)
