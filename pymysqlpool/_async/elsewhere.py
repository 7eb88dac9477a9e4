"""Names that an object lacks because another one has them: the error of their use tells which.

Descriptors, and not a `__getattr__` that tells so: with one, Python 3.11 takes ten times as long to find any attribute.

Never: hides a name that the class has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn


class _Elsewhere:
    def __init__(self, name: str, advice: str) -> None:
        self._name = name
        self._advice = advice

    def __get__(self, instance: Any, owner: type | None = None) -> NoReturn:
        kind = (owner or type(instance)).__name__
        raise AttributeError(
            f"{kind!r} object has no attribute {self._name!r}: {self._advice}", name=self._name, obj=instance
        )


def names_elsewhere(kind: type, names: Iterable[str], advice: str) -> None:
    """Let the use of each public name of `names` that `kind` lacks be an AttributeError that ends with `advice`."""
    for name in names:
        if not name.startswith("_") and not hasattr(kind, name):
            setattr(kind, name, _Elsewhere(name, advice))
