"""A connection pool that makes PyMySQL safe and fast. See `ConnectionPool`.

It is a DB-API module as well (PEP 249): `connect()` makes a connection of no pool, as `pymysql.connect()` does.

Owns: the public names, each loaded from its module when it is first asked for, so that a program that only imports this
package pays for nothing. Never: defines anything else.
"""

import sys

TYPE_CHECKING = False  # as in `typing`, without loading it
if TYPE_CHECKING:
    from pymysql import (
        BINARY,
        DATE,
        DATETIME,
        NUMBER,
        ROWID,
        STRING,
        TIME,
        TIMESTAMP,
        Binary,
        Date,
        DateFromTicks,
        Time,
        TimeFromTicks,
        Timestamp,
        TimestampFromTicks,
        apilevel,
        paramstyle,
        threadsafety,
    )
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

    from . import errors as errors
    from . import failures as failures
    from . import former as former
    from . import pool as pool
    from . import reuse as reuse
    from . import secrets as secrets
    from . import settings as settings
    from . import stats as stats
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

    connect = Connection

__version__ = "1.0.0rc1"

__all__ = [
    "BINARY",
    "DATE",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "TIME",
    "TIMESTAMP",
    "Binary",
    "Connection",
    "ConnectionInterruptedError",
    "ConnectionPool",
    "ConnectionPoolSingleton",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
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
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "__version__",
    "apilevel",
    "connect",
    "logger",
    "paramstyle",
    "threadsafety",
]

_HOMES = {
    "pymysql": "BINARY Binary DATE DATETIME Date DateFromTicks NUMBER ROWID STRING TIME TIMESTAMP Time TimeFromTicks"
    " Timestamp TimestampFromTicks apilevel paramstyle threadsafety",
    "pymysql.err": "DataError DatabaseError Error IntegrityError InterfaceError InternalError NotSupportedError"
    " OperationalError ProgrammingError Warning",
    "pymysqlpool._pool.lease": "Connection",
    "pymysqlpool.errors": "ConnectionInterruptedError ForkedConnectionError GetConnectionFromPoolError PoolClosed"
    " PoolDeadlock PoolError PoolOverloaded PoolTimeout PoolUnavailable ReturnConnectionToPoolError SettingsError",
    "pymysqlpool.former": "ConnectionPoolSingleton Cursor DictCursor",
    "pymysqlpool.pool": "ConnectionPool",
    "pymysqlpool.stats": "PoolStats",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = frozenset({"errors", "failures", "former", "pool", "reuse", "secrets", "settings", "stats"})


if not TYPE_CHECKING:  # with a `__getattr__`, type checkers would take every name for one of the package

    def _module(path: str) -> object:
        """As `importlib.import_module`, without loading `importlib`."""
        __import__(path)
        return sys.modules[path]

    def __getattr__(name: str) -> object:
        if name in _MODULES:  # `import pymysqlpool` is enough for `pymysqlpool.errors`
            return _module(f"pymysqlpool.{name}")
        if name == "connect":
            value: object = _module("pymysqlpool._pool.lease").Connection
        elif name == "logger":
            value = _module("pymysqlpool._util.log").load()
        elif name in _HOME_OF:
            value = getattr(_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
