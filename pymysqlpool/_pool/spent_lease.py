"""What the borrower still holds after the return: a lease that tells facts, and refuses the rest.

Owns: the class of a lease that has ended. As with a closed connection of PyMySQL, plain facts (`host`, `port`,
`thread_id()`) are answered; what would need the session raises an error with the line of the return. Never: reaches a
socket (Invariant 7).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .._driver.wire import Wire, fact
from .._util import callsite
from ..errors import ReturnConnectionToPoolError, as_attribute_error
from .lease import Connection


class SpentLease(Connection):
    """A lease that is alive as long as it has the attributes of a session; after that every use raises.

    With a GIL a `Connection` becomes one when it is given back, because a `__getattr__` would slow down every attribute
    of live leases (in Python 3.11).
    """

    __slots__ = ()

    __init__ = object.__init__  # making one opens nothing

    def put_on(self, wire: Wire) -> None:
        """Begin to live, with the session of `wire`."""
        self.__dict__ = wire.attributes()

    def __getattr__(self, name: str) -> Any:
        if name not in Connection.__slots__:
            with suppress(AttributeError):
                return fact(self._lasting, name)
        if name in Connection.__slots__ or name.startswith("__") or "_live" in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            self._refuse_closed()
        except ReturnConnectionToPoolError as error:
            raise as_attribute_error(error) from None

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


SpentLease.__name__ = Connection.__name__  # in tracebacks, as in `idle_lease`
