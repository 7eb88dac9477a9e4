"""What the borrower still holds after the return: a lease that tells facts, and refuses the rest.

Owns: the class of a lease that has ended. As with a closed connection of PyMySQL, plain facts (`host`, `port`,
`thread_id()`) are answered; what would need the session raises an error with the line of the return. Never: reaches a
socket (Invariant 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .._driver.lasting import fact
from .._driver.wire import Wire
from .._util import callsite
from ..errors import ReturnConnectionToPoolError, as_attribute_error
from .lease import Connection


class _LostAttribute:
    """Stands for an attribute of the session on a lease whose session is gone.
    Not a `__getattr__`: with one, Python takes ten times as long to find any attribute, and a return asks for some.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or "_live" in instance.__dict__:
            raise AttributeError(f"{Connection.__name__!r} object has no attribute {self._name!r}")
        with suppress(AttributeError):
            return fact(instance._lasting, self._name)
        try:
            instance.refuse_closed()
        except ReturnConnectionToPoolError as error:
            raise as_attribute_error(error) from None


class SpentLease(Connection):
    """A lease that is alive as long as it has the attributes of a session; after that every use raises.

    With a GIL a `Connection` becomes one when it is given back.
    """

    __slots__ = ()

    __init__ = object.__init__  # making one opens nothing

    def put_on(self, wire: Wire) -> None:
        """Begin to live, with the session of `wire`."""
        self.__dict__ = wire.attributes()

    @property
    def _returned(self) -> callsite.Place | None:  # type: ignore[override]
        if "_live" in self.__dict__:
            return None
        place = callsite.resolve(getattr(self, "_returned_code", None), getattr(self, "_returned_offset", 0))
        return place or callsite.UNKNOWN

    def connect(self, sock: Any = None) -> None:
        if "_live" not in self.__dict__:
            self._refuse_closed()
        super().connect(sock)

    def ping(self, *arguments: Any, **named: Any) -> None:
        if "_live" not in self.__dict__:
            self._refuse_closed()
        super().ping(*arguments, **named)

    def insert_id(self) -> int:
        if "_live" not in self.__dict__:
            self._refuse_closed()
        return super().insert_id()  # type: ignore[no-any-return, no-untyped-call]


def learn_lost_attributes(names: Iterable[str]) -> None:
    """Let leases that have ended refuse these attributes of a session."""
    for name in names:
        if not hasattr(SpentLease, name) and name not in vars(SpentLease):
            setattr(SpentLease, name, _LostAttribute(name))


SpentLease.__name__ = Connection.__name__  # in tracebacks, as in `idle_lease`
