"""Frozen dataclasses that are cheap to import.

`@dataclass` writes and compiles source for each class, half a millisecond to two for one of ours, and the module
`dataclasses` imports `inspect`, `ast` and more: together a third of the cost of importing this package, which command
line tools and cold starts pay. Type checkers treat a `Record` as a frozen dataclass, and the functions of
`dataclasses` (`fields`, `replace`, `asdict`) accept one: what they look for is made when it is first asked for.

Owns: how a record is made, compared, shown and protected from changes. Never: knows what a record is of.
"""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda record: record  # says nothing but to type checkers


class _Made:
    """An attribute of each class that is made when it is first asked for."""

    def __init__(self, make: Callable[[type[Record]], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type[Record]) -> Any:
        made = self._make(owner)
        setattr(owner, self._name, made)
        return made


def _as_dataclass(cls: type[Record]) -> Any:
    import dataclasses

    fields = [
        (name, cls.__annotations__[name], *([getattr(cls, name)] if hasattr(cls, name) else []))
        for name in cls.__match_args__
    ]
    return dataclasses.make_dataclass(cls.__name__, fields, frozen=True)


def _fields(cls: type[Record]) -> Any:
    return _as_dataclass(cls).__dataclass_fields__


def _signature(cls: type[Record]) -> Any:
    import inspect

    return inspect.signature(_as_dataclass(cls))


@dataclass_transform(frozen_default=True)
class Record:
    """The base of a frozen dataclass: annotated names are its fields, values their defaults."""

    __match_args__: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__: ClassVar[Any] = _Made(_fields)
    __signature__: ClassVar[Any] = _Made(_signature)
    _names: ClassVar[frozenset[str]]
    _required: ClassVar[frozenset[str]]
    _has_check: ClassVar[bool]

    def __init_subclass__(cls) -> None:
        names = tuple(cls.__annotations__)
        type.__setattr__(cls, "__match_args__", names)
        cls._names = frozenset(names)
        cls._required = frozenset(name for name in names if name not in cls.__dict__)
        cls._has_check = hasattr(cls, "__post_init__")

    def __init__(self, *values: Any, **named: Any) -> None:
        if values:
            by_place = dict(zip(self.__match_args__, values, strict=False))
            if len(by_place) < len(values) or not by_place.keys().isdisjoint(named):
                _refuse(self, values, named)
            named.update(by_place)
        if not self._required <= named.keys() <= self._names:
            _refuse(self, values, named)
        self.__dict__.update(named)
        if self._has_check:
            self.__post_init__()  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to field {name!r} of {type(self).__name__}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete field {name!r} of {type(self).__name__}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__qualname__}({shown})"


def _values(record: Record) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__match_args__)


def _refuse(record: Record, values: tuple[Any, ...], named: dict[str, Any]) -> NoReturn:
    """Raise the TypeError that a written `__init__` raises."""
    record.__signature__.bind(*values, **named)
    raise TypeError(f"{type(record).__name__}() got wrong arguments")
