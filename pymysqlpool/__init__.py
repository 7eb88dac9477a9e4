"""A connection pool that makes PyMySQL safe and fast. See `ConnectionPool`.

It is a DB-API module as well (PEP 249): `connect()` makes a connection of no pool, as `pymysql.connect()` does.
"""

from pymysql import apilevel, paramstyle, threadsafety
from pymysql.err import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)

from ._pool.lease import Connection
from ._util.log import logger
from .errors import (
    ConnectionInterruptedError,
    ForkedConnectionError,
    GetConnectionFromPoolError,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
    ReturnConnectionToPoolError,
    SettingsError,
)
from .former import ConnectionPoolSingleton, Cursor, DictCursor
from .pool import ConnectionPool
from .stats import PoolStats

__all__ = [
    "Connection",
    "ConnectionInterruptedError",
    "ConnectionPool",
    "ConnectionPoolSingleton",
    "Cursor",
    "DataError",
    "DatabaseError",
    "DictCursor",
    "Error",
    "ForkedConnectionError",
    "GetConnectionFromPoolError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "PoolUnavailable",
    "ProgrammingError",
    "ReturnConnectionToPoolError",
    "SettingsError",
    "Warning",
    "__version__",
    "apilevel",
    "connect",
    "logger",
    "paramstyle",
    "threadsafety",
]

connect = Connection

__version__ = "1.0.0rc1"
