"""asyncmy's interface on this pool: `from pymysqlpool import asyncmy`; the rest of the code stays unchanged.

Names and arguments are those of asyncmy 0.2. What its connections and pools do is `pymysqlpool.aiomysql`'s behaviour,
which asyncmy has taken over: a block of `pool.acquire()` commits nothing, `Pool.close()` is a plain call. Libraries
that import asyncmy by themselves (SQLAlchemy's `mysql+asyncmy`, tortoise-orm) get this module in its place after
`install_as_asyncmy()`.

Never: adds a public name that asyncmy lacks, except `install_as_asyncmy`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import pymysql
from pymysql import charset, constants, converters, cursors
from pymysql import err as errors
from pymysql.err import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    MySQLError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)

from . import aiomysql
from ._async.turn import Turn
from .aio import AsyncConnection, AsyncConnectionPool
from .secrets import conceal

__all__ = [
    "Connection",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "NotSupportedError",
    "OperationalError",
    "Pool",
    "ProgrammingError",
    "Warning",
    "charset",
    "connect",
    "constants",
    "converters",
    "create_pool",
    "cursors",
    "errors",
    "install_as_asyncmy",
]

apilevel: str = pymysql.apilevel
threadsafety: int = pymysql.threadsafety
paramstyle: str = pymysql.paramstyle


class _NotConnected:
    """What stands for the lease of a `Connection` that is not connected."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        raise InterfaceError(0, "the connection is not connected: `await connection.connect()` comes first")


class Connection(aiomysql.Connection):
    """A connection with asyncmy's interface: one that a pool lends, or `Connection(host=..., ...)`, which is connected
    by `await connection.connect()`."""

    _logger = "asyncmy"
    lease: Any = _NotConnected()  #: the `Connection` behind it; an error while there is none

    def __init__(self, *lent: Any, **options: Any) -> None:
        if lent and isinstance(lent[0], AsyncConnectionPool):
            super().__init__(*lent)
            return
        if lent:
            raise TypeError("Connection(...) takes keyword arguments only: host, user, password, database, ...")
        self._options = conceal(options)
        self._turn = Turn()

    async def connect(self) -> None:
        """Connect. Does nothing if it is connected."""
        if not self.connected:
            made = await aiomysql._connect_alone(self._options, Pool)
            AsyncConnection.__init__(self, made._pool, made.lease, made.token)
            self._alone, made._alone = made._alone, None

    @property
    def connected(self) -> bool:
        """Whether it is connected, and was not closed."""
        return not self.closed

    _connected = connected

    @property
    def closed(self) -> bool:
        return "lease" not in self.__dict__ or super().closed

    def get_host_info(self) -> str:
        """As asyncmy's, and PyMySQL's: without the path of a unix socket."""
        return AsyncConnection.get_host_info(self)

    def __repr__(self) -> str:
        return super().__repr__() if "lease" in self.__dict__ else f"<{type(self).__name__} not connected>"

    async def ensure_closed(self) -> None:
        if "lease" in self.__dict__:
            await super().ensure_closed()


class Pool(aiomysql.Pool):
    """A pool with asyncmy's interface, made by `create_pool`."""

    _connection_class = Connection


def create_pool(
    minsize: int = 1, maxsize: int = 10, echo: bool = False, pool_recycle: int = 3600, **options: Any
) -> Any:
    """Make a pool: `pool = await create_pool(...)`, or `async with create_pool(...) as pool:`.

    Args:
        minsize: connections that are opened at once.
        echo: log each statement and its arguments, at level INFO of the logger "asyncmy".
        pool_recycle: seconds after which a connection is replaced; -1: never.
        **options: those of `connect`, and of `pymysqlpool.settings.Settings`.
    """
    return aiomysql._pool_of(Pool, minsize, maxsize, pool_recycle, {**options, "echo": echo})


def connect(**options: Any) -> Any:
    """Open a connection without a shared pool: `await connect(...)`, or `async with connect(...) as connection:`."""
    return aiomysql._connection_of(Pool, options)


def install_as_asyncmy() -> None:
    """Make `import asyncmy` return this module, in all libraries. Call it before they are imported."""
    this: ModuleType = sys.modules[__name__]
    parts = {"connection": this, "pool": this, "errors": errors, "cursors": cursors, "converters": converters}
    sys.modules["asyncmy"] = this
    for name, module in {**parts, "charset": charset, "constants": constants}.items():
        sys.modules[f"asyncmy.{name}"] = module
    for name in ("CLIENT", "COMMAND", "CR", "ER", "FIELD_TYPE", "FLAG", "SERVER_STATUS"):
        sys.modules[f"asyncmy.constants.{name}"] = import_module(f"pymysql.constants.{name}")
