"""A connection pool that makes PyMySQL safe and fast. See `ConnectionPool`."""

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
from .pool import ConnectionPool
from .stats import PoolStats

__all__ = [
    "Connection",
    "ConnectionInterruptedError",
    "ConnectionPool",
    "ForkedConnectionError",
    "GetConnectionFromPoolError",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "PoolUnavailable",
    "ReturnConnectionToPoolError",
    "SettingsError",
    "__version__",
    "logger",
]

__version__ = "1.0.0rc1"
