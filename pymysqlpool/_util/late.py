"""What waits until it is needed: regular expressions for their first use, modules for the first pool.

Compiling the expressions of this package takes longer than loading its code, and a program seldom needs more than some.
A program that imports the pool's class and makes no pool needs a quarter of the modules. The others are loaded when the
first pool is made, in one place, so no borrow, finalizer or signal handler ever imports one. The quarter also does
without `typing`, which takes as long as a dozen of our modules: what only type checkers need is under `TYPE_CHECKING`.

Owns: when an expression is compiled, and when those modules are loaded. Never: changes what an expression matches.
"""

from __future__ import annotations

import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
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


# What is not there yet: by who needs it and its name there, those global names, the module, and its name inside.
_waiting: dict[tuple[str, str], tuple[dict[str, Any], str, str]] = {}


def names(own: dict[str, Any], package: str, *wanted: str) -> None:
    """Let the global names `own` have these from the first pool on: modules of `package`, or "module:name,name"."""
    for path in wanted:
        module, _, inside = path.partition(":")
        for name in inside.split(","):
            _waiting[own["__name__"], name or module.rpartition(".")[2]] = own, f"{package}.{module}", name


def load() -> None:
    """Load what is needed from the first pool on."""
    while _waiting:
        for key, (own, path, name) in list(_waiting.items()):
            __import__(path)  # as `importlib.import_module`, without loading `importlib`
            module = sys.modules[path]
            own[key[1]] = getattr(module, name) if name else module
            _waiting.pop(key, None)
