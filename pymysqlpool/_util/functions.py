"""Whether a function that the user gave can be called the way the pool will call it, reported when the pool is made.

Owns: this check. Never: calls the function.
"""

from __future__ import annotations

from typing import Any

from ..errors import SettingsError


def check(option: str, function: Any, *arguments: str) -> None:
    """Refuse what cannot be called with as many arguments by position as there are names.

    Raises:
        SettingsError: it cannot be called so, or it is a coroutine function, which nothing would await.
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
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of a function in C that does not tell
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise SettingsError(f"{said} is called {called}, which it does not take: {error}") from None
