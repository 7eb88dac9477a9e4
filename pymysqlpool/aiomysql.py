"""aiomysql's interface on this pool: `from pymysqlpool import aiomysql`; the rest of the code stays unchanged.

Names, arguments and behaviour are those of aiomysql 0.2 and 0.3. An `AsyncConnectionPool` is behind them, so no session
state passes from one borrower to the next, waiters are served in order, and the reply to a cancelled statement reaches
no other borrower.
Libraries that import aiomysql by themselves (SQLAlchemy's `mysql+aiomysql`, tortoise-orm, databases) get this module
in its place after `install_as_aiomysql()`.

Behaviour of aiomysql that differs from `pymysqlpool.aio`: a block of `pool.acquire()` commits nothing;
`Connection.close()` and `Pool.close()` are plain calls; `ping()` reconnects where nothing would be lost; `acquire()`
waits for as long as it takes. `docs/migrating/from-aiomysql.md` has the differences that remain.

Never: adds a public name that aiomysql lacks, except `install_as_aiomysql`.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from threading import Thread
from types import ModuleType
from typing import Any, NoReturn

from pymysql import cursors as _cursors
from pymysql.converters import (  # type: ignore[attr-defined]
    escape_dict,
    escape_sequence,
    escape_string,
)
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor
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

from ._async.compat import CompatCursor, EchoingCursor, Enterable, Nothing
from ._async.worker import ThreadsafeEvent
from ._driver.json_cursor import DeserializationCursor
from ._util import callsite
from .aio import AsyncConnection, AsyncConnectionPool
from .secrets import conceal

__all__ = [
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "DictCursor",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "NotSupportedError",
    "OperationalError",
    "Pool",
    "ProgrammingError",
    "SSCursor",
    "SSDictCursor",
    "Warning",
    "connect",
    "create_pool",
    "cursors",
    "escape_dict",
    "escape_sequence",
    "escape_string",
    "install_as_aiomysql",
]

version = __version__ = "0.3.2"  # the version of aiomysql whose names these are

_PATIENT = 10 * 365 * 86400.0  # seconds that `acquire()` waits, as aiomysql, which has no limit
_OUR_NAMES = {"db": "database", "passwd": "password"}
_NOT_ITS = ("echo", "loop", "auth_plugin", "server_public_key_path")  # to the pool behind it


class Connection(AsyncConnection):
    """A connection with aiomysql's interface: `close()` is a plain call, and its with-block commits nothing."""

    _logger = "aiomysql"  # its name, for `echo=True`
    _alone: AsyncConnectionPool | None = None  # for a connection of `connect`: its own pool, closed with it

    def close(self) -> None:  # type: ignore[override]  # a plain call, as in aiomysql
        """Return it to its pool, or close it if `connect` made it; does not wait."""
        self._leave(*callsite.of(sys._getframe(1)))
        self._end_alone()

    def _leave(self, place: Any, offset: int) -> ThreadsafeEvent | None:
        """Start the return, unless that was done; what ends it, if it is to be waited for."""
        if self.given_back is not None or "lease" not in self.__dict__ or self.returns_unchanged(place, offset):
            return None
        return self.give_back_nowait(partial(self._give_back, None))

    @property
    def closed(self) -> bool:
        """Whether it is no longer usable: it was returned or cut, or its pool was terminated."""
        return super().closed or getattr(self._pool, "_is_terminated", False)

    async def ensure_closed(self) -> None:
        """Call `close()`, and wait until it is complete."""
        await self.give_back(None)
        self._end_alone()

    def _end_alone(self) -> None:
        alone, self._alone = self._alone, None
        if alone is not None:
            Thread(target=_end, args=(alone,), name=f"pymysqlpool {alone.name} close").start()

    def cursor(  # type: ignore[override]  # several, as in aiomysql
        self, *kinds: type[Any], cursor: type[Any] | None = None
    ) -> CompatCursor:
        """Return a cursor of the class `kinds`, or of a class that combines several. asyncmy names one by `cursor`."""
        if cursor is not None:
            kinds = (*kinds, cursor)
        if len(kinds) > 1:
            kinds = (type("Mixed", tuple(sorted(kinds, key=_converts_last)), {}),)
        self._refuse_closed()
        cursor_of_pymysql = self.lease.cursor(*kinds)
        if self.echo:
            return EchoingCursor(self, cursor_of_pymysql, self._logger)
        return CompatCursor(self, cursor_of_pymysql)

    @property
    def echo(self) -> bool:
        """Whether its cursors log their statements."""
        return getattr(self.__dict__.get("_pool"), "echo", False)

    def get_host_info(self) -> str:
        """As aiomysql's: "Localhost via UNIX socket" with the socket's path, or "socket" with host and port."""
        info = super().get_host_info()
        return f"{info}: {self.unix_socket}" if self.unix_socket else info

    async def ping(self, reconnect: bool = True) -> None:
        """Check that the server answers. A lost session is an error, also with `reconnect`: borrow again."""
        await super().ping()

    async def _execute_command(self, command: int, sql: str | bytes) -> None:
        """Used by tortoise-orm for its savepoints."""
        await self.query(sql)

    async def _read_ok_packet(self) -> None:
        """Does nothing: `_execute_command` has read the packet."""

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.ensure_closed()


def _converts_last(kind: type[Any]) -> int:
    """The place of a class among those that a cursor combines: PyMySQL's do not call the next one's conversion."""
    return -1 if issubclass(kind, DeserializationCursor) else int(issubclass(kind, SSCursor))


def _end(pool: AsyncConnectionPool) -> None:
    pool.pool.close(0)
    pool.end_threads()


class Pool(AsyncConnectionPool):
    """A pool with aiomysql's interface, made by `create_pool`."""

    _connection_class = Connection
    _is_closing = False
    _is_terminated = False
    _minsize = 0
    _echo = False

    @property
    def minsize(self) -> int:
        """How many connections were opened at once."""
        return self._minsize

    @property
    def echo(self) -> bool:
        """Whether statements are logged."""
        return self._echo

    def acquire(self) -> Any:
        """`connection = await pool.acquire()`, or `async with pool.acquire() as connection:`. Commits nothing."""
        return Enterable(self._acquire(), self.release)

    async def _acquire(self) -> Connection:
        if self._is_closing:
            raise RuntimeError("Cannot acquire connection after closing pool")
        connection = await self.get_connection()
        assert isinstance(connection, Connection)
        return connection

    def release(self, connection: Any) -> Any:
        """Return the connection; uncommitted changes are rolled back. Awaiting the result is optional."""
        loop = asyncio.get_running_loop()
        returned = connection._leave(*callsite.of(sys._getframe(1)))
        if returned is not None:
            return loop.create_task(returned.wait())
        done = loop.create_future()
        done.set_result(None)
        return done

    def close(self, timeout: float = 10.0) -> Any:
        """Stop lending. Lent connections can still be returned; `wait_closed()` waits for them."""
        self._is_closing = True
        return Nothing()

    def terminate(self) -> None:
        """Stop lending, and cut off the lent connections."""
        self._is_closing = self._is_terminated = True
        self._closing = asyncio.get_running_loop().create_task(AsyncConnectionPool.close(self, 0.0))

    async def wait_closed(self) -> None:
        """Wait until all lent connections are returned and closed."""
        if not self._is_closing:
            raise RuntimeError(".wait_closed() should be called after .close()")
        closing = getattr(self, "_closing", None)
        await (AsyncConnectionPool.close(self, _PATIENT) if closing is None else closing)

    @property
    def closed(self) -> bool:
        """Whether `close()` or `terminate()` was called."""
        return self._is_closing

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
        await self.wait_closed()

    def __enter__(self) -> NoReturn:
        raise RuntimeError(
            "a plain `with` cannot wait for a connection: write `async with pool.acquire() as connection:`"
        )

    def __exit__(self, *exc_info: object) -> None:
        """Never reached. Without it, the interpreter would raise its own error before `__enter__` is called."""


def create_pool(
    minsize: int = 1,
    maxsize: int = 10,
    echo: bool = False,
    pool_recycle: int = -1,
    loop: Any = None,
    **options: Any,
) -> Any:
    """Make a pool: `pool = await create_pool(...)`, or `async with create_pool(...) as pool:`.

    Args:
        minsize: connections that are opened at once, without waiting for one to be returned.
        echo: log each statement and its arguments, at level INFO of the logger "aiomysql".
        pool_recycle: seconds after which a connection is replaced; -1: never.
        **options: those of `connect`, and of `pymysqlpool.settings.Settings`.
    """
    return _pool_of(Pool, minsize, maxsize, pool_recycle, {**options, "echo": echo})


def _pool_of(kind: type[Pool], minsize: int, maxsize: int, pool_recycle: int, options: dict[str, Any]) -> Any:
    """What `create_pool` returns, for a pool of the class `kind`."""
    return Enterable(_create_pool(kind, minsize, maxsize, pool_recycle, conceal(options)), _leave_pool)


async def _create_pool(
    kind: type[Pool], minsize: int, maxsize: int, pool_recycle: int, options: dict[str, Any]
) -> Pool:
    if minsize < 0:
        raise ValueError("minsize should be zero or greater")
    most = maxsize or sys.maxsize
    if most < minsize:
        raise ValueError("maxsize should be not less than minsize")
    echo = bool(options.get("echo"))
    options = _ours(options)
    options.setdefault("timeout", _PATIENT)
    if pool_recycle >= 0:
        options.setdefault("con_lifetime", max(pool_recycle, 0.001))
    pool = kind(size=most, maxsize=most, **options)
    pool._minsize = minsize
    pool._echo = echo
    try:
        made = [await pool.get_connection() for _ in range(minsize)]
        for connection in made:
            await connection.give_back(None)
    except BaseException:
        await AsyncConnectionPool.close(pool, 0.0)
        raise
    return pool


async def _leave_pool(pool: Pool) -> None:
    pool.close()
    await pool.wait_closed()


def connect(*arguments: Any, **options: Any) -> Any:
    """Open a connection without a shared pool: `await connect(...)`, or `async with connect(...) as connection:`."""
    names = ("host", "user", "password", "db", "port")
    options = {**dict(zip(names, arguments, strict=False)), **options}
    return _connection_of(Pool, options)


def _connection_of(kind: type[Pool], options: dict[str, Any]) -> Any:
    """What `connect` returns, for a connection of the kind that a pool of the class `kind` lends."""
    return Enterable(_connect_alone(conceal(options), kind), kind._connection_class.ensure_closed)


async def _connect_alone(options: dict[str, Any], kind: type[Pool]) -> Connection:
    """A connection of a pool of its own, of the class `kind`."""
    echo = bool(options.get("echo"))
    alone = kind(size=1, maxsize=1, **_ours(options))
    alone._echo = echo
    try:
        connection = await alone.get_connection()
    except BaseException:
        await AsyncConnectionPool.close(alone, 0.0)
        raise
    assert isinstance(connection, Connection)
    connection._alone = alone
    return connection


def _ours(options: dict[str, Any]) -> dict[str, Any]:
    """Translate aiomysql's arguments to PyMySQL's names."""
    ours = {
        _OUR_NAMES.get(name, name): value
        for name, value in options.items()
        if name not in _NOT_ITS and not (name in ("db", "database") and value is None)
    }
    ours.setdefault("host", "localhost")
    return ours


def install_as_aiomysql() -> None:
    """Make `import aiomysql` return this module, in all libraries. Call it before they are imported."""
    sys.modules["aiomysql"] = sys.modules["aiomysql.connection"] = sys.modules["aiomysql.pool"] = connection
    sys.modules["aiomysql.cursors"] = cursors


cursors: ModuleType = ModuleType("aiomysql.cursors", _cursors.__doc__)
cursors.__dict__.update(vars(_cursors), __name__=cursors.__name__, DeserializationCursor=DeserializationCursor)
connection: ModuleType = sys.modules[__name__]  # aiomysql's submodules, which annotations refer to
pool: ModuleType = connection
