"""Whether a function that the user gave can be called the way the pool will call it, reported when the pool is made.

Owns: this check. Never: calls the function.
"""

from __future__ import annotations

from types import BuiltinFunctionType

from ..errors import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAY_BE_MEANT = (print, input)


def check(option: str, function: Any, *arguments: str) -> None:
    """Refuse what cannot be called with as many arguments by position as there are names.

    Raises:
        SettingsError: it cannot be called so, it is a coroutine function, which nothing would await, or one of Python's
            own, as `int` and `len`: many of them do not tell what they take, and none does what is needed.
    """
    import inspect  # here: most pools have no hooks, and it costs 4 ms

    said = f"{option}={function!r}"
    called = f"with {len(arguments)} argument{'s' if len(arguments) != 1 else ''}"
    if arguments:
        called += f" ({', '.join(arguments)})"
    if not callable(function):
        raise SettingsError(f"{said} must be callable, {called}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise SettingsError(f"{said} is a coroutine function, which nothing awaits; give one that is called {called}")
    if _is_pythons_own(function) and function not in _MAY_BE_MEANT:
        raise SettingsError(f"{said} is one of Python's own, which is of no use here; it would be called {called}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of a function in C that does not tell
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise SettingsError(f"{said} is called {called}, which it does not take: {error}") from None


def _is_pythons_own(function: Any) -> bool:
    """Whether it is a type or a function of `builtins`; a method of an object, as `[].append`, is of its object."""
    if isinstance(function, type):
        return function.__module__ == "builtins"
    return isinstance(function, BuiltinFunctionType) and getattr(function.__self__, "__name__", None) == "builtins"
