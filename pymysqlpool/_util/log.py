"""The package's one logger: `pymysqlpool.logger`. No handler, no level: those are the application's.

Text that comes from outside, such as the path of a request, cannot forge a line of the log or command a terminal: a
filter on the logger writes control characters of each argument as escapes. Lines of our own making are `Lines`.

An import of this package does not load `logging`, which takes as long as half of this package; making a pool does.

Owns: the logger and its filter. Never: adds a handler or sets a level.
"""

from __future__ import annotations

from functools import cache

from ..errors import PoolError
from .late import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

DEBUG = 10  # as `logging.DEBUG`


class Lines(str):
    """A text of this package's own making, whose line feeds are meant."""

    __slots__ = ()


def one_line(text: str) -> str:
    """`text` with its control characters, and what else ends a line, written as escapes: `\\n`, `\\x1b`, `\\u2028`."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


# C0, DEL and C1, the separators that `str.splitlines` knows, what turns the direction of writing, and lone surrogates,
# which no encoding takes.
_CONTROL = pattern("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class OneLine:
    """An attribute whose text is read as `one_line`: it goes into errors and log lines. Every request sets it, and few
    read it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"  # an attribute; `vars` would slow down every attribute of the instance

    def __get__(self, instance: object, owner: type | None = None) -> str:
        return one_line(getattr(instance, self._name))

    def __set__(self, instance: object, text: str) -> None:
        setattr(instance, self._name, text)


def _clean(argument: object) -> object:
    if isinstance(argument, Lines | PoolError):
        return argument  # a PoolError lists the holders, a line for each
    if isinstance(argument, str):
        return one_line(argument)
    return one_line(str(argument)) if isinstance(argument, BaseException) else argument


def _clean_record(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_clean(argument) for argument in record.args)
    return True


@cache
def load() -> logging.Logger:
    """`pymysqlpool.logger`."""
    import logging

    logger = logging.getLogger("pymysqlpool")
    logger.addFilter(_clean_record)
    return logger


class _LateLogger:
    """Its methods are those of the logger, kept as attributes: from the second use on they cost the same."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(load(), name)
        if callable(value):
            self.__dict__[name] = value
        return value


logger: logging.Logger = _LateLogger()  # type: ignore[assignment]
