"""Passwords that do not print: not in a log, an error, a traceback's local variables (Invariant 16).

Tools that report exceptions send the local variables of every frame, and mask those that are called `password`; one
inside a dictionary they send. So the frames of this package never hold a password in clear text: it is wrapped on
entry, and revealed only in the call that passes it to PyMySQL.

    pool = ConnectionPool(user="shop", password=Secret(read_password()))

Owns: `Secret`, and which arguments are secret. Never: keeps a secret from code that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    _Dict = dict[str, Any]
else:
    _Dict = dict

__all__ = ["Arguments", "Secret", "conceal", "reveal"]

_WORDS = ("pas", "pwd", "secret")  # in its name: an option that is misspelt, and will be refused, is no less secret
_OF_CLASSES = ("conv", "auth_plugin_map")  # dicts of functions and classes, which stay the user's own


class Secret:
    """A value whose `repr` is `***`; equal to another `Secret` of an equal value."""

    __slots__ = ("_reveal",)

    def __init__(self, value: Any) -> None:
        self._reveal: Callable[[], Any] = lambda: value  # in a closure, which error reporters do not inspect

    def reveal(self) -> Any:
        """Return the value."""
        return self._reveal()

    def __repr__(self) -> str:
        return "'***'"

    def __bool__(self) -> bool:
        return bool(self._reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._reveal() == other._reveal())

    def __hash__(self) -> int:
        return hash(self._reveal())

    def __reduce__(self) -> Any:
        return Secret, (self._reveal(),)


class Arguments(_Dict):
    """Arguments in clear text, for code that reads them one by one; the `repr` of the whole shows no password."""

    def __repr__(self) -> str:
        return repr(conceal(self))

    __str__ = __repr__


def conceal(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of arguments for PyMySQL, with each password in a `Secret`, and those in their dicts and lists of dicts as
    well: of a key in `ssl`, or in a value that will be refused.

    Functions that return a password, None and booleans stay as they are. A URL given as `host` may hold a password.
    """
    concealed = {name: _conceal(name, arguments[name]) for name in arguments}
    if isinstance(concealed.get("ssl"), Mapping):
        concealed["ssl"] = {name: _conceal(name, concealed["ssl"][name]) for name in concealed["ssl"]}
    return concealed


def _conceal(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | Secret) or callable(value):
        return value
    lower = str(name).lower()
    if any(word in lower for word in _WORDS) or (lower == "host" and looks_like_a_url(value)):
        return Secret(value)
    if type(value) is dict and name not in _OF_CLASSES:
        return conceal(value)
    if type(value) is list:
        return [conceal(item) if type(item) is dict else item for item in value]
    return value


def looks_like_a_url(host: object) -> bool:
    """Whether what should be a host's name has more in it, a password perhaps."""
    return isinstance(host, str) and ("@" in host or "://" in host)


def reveal(arguments: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """A copy of `arguments` as they were before `conceal`. Call it in the call that passes them on, and do not keep the
    result.

    Args:
        names: of those that may be concealed; None: all.
    """
    revealed = dict(arguments)
    for name in arguments if names is None else names:
        value = arguments[name]
        if isinstance(value, Secret):
            revealed[name] = value.reveal()
        elif type(value) is dict:
            revealed[name] = reveal(value)
    return revealed
