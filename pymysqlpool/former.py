"""Names of pymysql-pool 0.5.0 that 0.3.7 lacks: `ConnectionPoolSingleton`, `Cursor`, `DictCursor`.

Owns: the pool that is made once. Never: changes a `ConnectionPool`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from ._driver.former_cursors import Cursor, DictCursor
from ._util.lock import new_lock
from .pool import ConnectionPool

if TYPE_CHECKING:
    from .options import AllOptions

__all__ = ["ConnectionPoolSingleton", "Cursor", "DictCursor"]

_making = new_lock()


class ConnectionPoolSingleton(ConnectionPool):
    """A `ConnectionPool` that is made at the first call; every later call returns it and ignores its arguments. A
    subclass has a pool of its own, and a closed pool is replaced.

    Args:
        *args, **options: those of `ConnectionPool`; `autocommit` is True if it is not given, as in pymysql-pool 0.5.0.
    """

    _only: ConnectionPoolSingleton | None = None

    def __new__(cls, *args: Any, **options: Unpack[AllOptions]) -> Self:
        given: dict[str, Any] = {"autocommit": True, **options}
        with _making:
            only: Any = cls.__dict__.get("_only")
            if only is None or only.is_closed:
                only = super().__new__(cls)
                ConnectionPool.__init__(only, *args, **given)
                cls._only = only
            return only  # type: ignore[no-any-return]

    def __init__(self, *args: Any, **options: Unpack[AllOptions]) -> None:
        pass  # made in `__new__`, once
