"""Ours and its peers behind one interface, each imported when it is made.

A peer that is not there raises `NotInstalled` with what to do, and is named in every table it would have been in.
Each runs with its defaults, the safety checks among them, and with room for `size` connections; a variant that
leaves checks out says so in its name.

`borrow` and `give_back` are attributes, set to the peer's own callables where that is possible, so that no adapter's
time is measured as a pool's.

`python -m benchmarks.peers` fetches the two versions of pymysql-pool: they have our import name, so they cannot be
installed beside us; their one file lies in the cache folder and is loaded under another name.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from operator import methodcaller
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pymysql
from pymysql.constants.SERVER_STATUS import SERVER_STATUS_IN_TRANS

from .measure import NOT_INSTALLED, OURS

_close = methodcaller("close")
_ids = count()

BARE = "bare PyMySQL"


class NotInstalled(Exception):
    """A peer is not there; the message says what it needs."""


def load(module: str, package: str) -> ModuleType:
    """Import a peer's module.

    Raises:
        NotInstalled: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalled(f"{NOT_INSTALLED} (pip install {package})") from error


def query(connection: Any, statement: str = "SELECT 1") -> Any:
    """One statement and its rows, the same way with every driver."""
    cursor = connection.cursor()
    cursor.execute(statement)
    rows = cursor.fetchall()
    cursor.close()
    return rows


class Peer:
    """Some way to have a connection: with room for `size` at once, to the server that `connect` names."""

    name: str
    borrow: Callable[[], Any]
    give_back: Callable[[Any], Any]

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close all connections; none is lent."""

    def insist(self, until: float) -> tuple[Any, int]:
        """Borrow, again and again where the peer refuses to wait. Returns the connection and the refusals.

        Raises:
            TimeoutError: the monotonic instant `until` is over.
        """
        failures = 0
        while True:
            try:
                return self.borrow(), failures
            except Exception:  # noqa: BLE001 - each peer has its own for "none is free"
                failures += 1
                if time.monotonic() >= until:
                    raise TimeoutError(f"{self.name}: no connection in time, {failures} refusals") from None
                time.sleep(0.001)

    def fill(self, number: int) -> None:
        """Have `number` connections open and idle, each of which has been used."""
        until = time.monotonic() + 30
        lent = [self.insist(until)[0] for _ in range(number)]
        for connection in lent:
            query(connection)
            self.give_back(connection)


class Ours(Peer):
    name = OURS
    reads_fast = True

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        from pymysqlpool import ConnectionPool

        self.pool = ConnectionPool(size=size, maxsize=size, fast_reader=self.reads_fast, **connect)
        self.borrow = self.pool.get_connection
        self.give_back = _close

    def close(self) -> None:
        self.pool.close(timeout=1)


class OursWithoutReader(Ours):
    name = f"{OURS}, PyMySQL's reader"
    reads_fast = False


class Bare(Peer):
    """The ceiling: one connection per borrower, held for good."""

    name = BARE

    def __init__(self, connect: Mapping[str, Any], size: int = 1) -> None:
        self._connections = [pymysql.connect(**connect) for _ in range(size)]
        self.borrow = partial(_same, self._connections[0])
        self.give_back = _nothing

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def fill(self, number: int) -> None:
        for connection in self._connections[:number]:
            query(connection)


def _same(connection: Any) -> Any:
    return connection


def _nothing(connection: Any) -> None:
    pass


class ConnectPerQuery(Peer):
    """The floor."""

    name = "connect per query"

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        self.borrow = partial(pymysql.connect, **connect)
        self.give_back = _close


class _PymysqlPool(Peer):
    """pymysql-pool: loaded from its file, since its import name is ours."""

    version: str

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        self._pool = load_pymysql_pool(self.version).ConnectionPool(size=size, maxsize=size, **connect)
        self.borrow = self._pool.get_connection
        self.give_back = _close

    def close(self) -> None:
        for connection in self._pool._pool:
            # It has no close(). This is how it parts with a connection itself, and 0.5.0 refuses to close idle ones.
            connection._pool, connection._returned = None, False
            with suppress(pymysql.err.MySQLError):
                connection.close()


class PymysqlPool037(_PymysqlPool):
    name = "pymysql-pool 0.3.7"
    version = "0.3.7"


class PymysqlPool050(_PymysqlPool):
    name = "pymysql-pool 0.5.0"
    version = "0.5.0"


class DBUtils(Peer):
    name = "DBUtils"
    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        pooled = load("dbutils.pooled_db", "DBUtils").PooledDB
        limits = {"maxcached": size, "maxconnections": size, "blocking": True}
        self._pool = pooled(pymysql, **limits, **self.options, **connect)
        self.borrow = self._pool.connection
        self.give_back = _close

    def close(self) -> None:
        self._pool.close()


class DBUtilsUnchecked(DBUtils):
    name = "DBUtils, no checks"
    options: ClassVar = {"ping": 0, "reset": False}


class SQLAlchemy(Peer):
    name = "SQLAlchemy"
    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        queue_pool = load("sqlalchemy.pool", "SQLAlchemy").QueuePool
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it logs each lost connection
        self._pool = queue_pool(partial(pymysql.connect, **connect), pool_size=size, max_overflow=0, **self.options)
        self.borrow = self._pool.connect
        self.give_back = _close

    def close(self) -> None:
        self._pool.dispose()


class SQLAlchemyNoRollback(SQLAlchemy):
    name = "SQLAlchemy, no rollback"
    options: ClassVar = {"reset_on_return": None}


class MySQLConnector(Peer):
    """Has its own driver, of which the compiled form is the default. Never waits: an empty pool is an error."""

    name = "mysql-connector"
    most = 32  # connections, by its own limit

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        pooling = load("mysql.connector.pooling", "mysql-connector-python")
        options = {name: value for name, value in connect.items() if name != "ssl"}
        size = min(size, self.most)
        self._pool = pooling.MySQLConnectionPool(pool_name=f"bench{next(_ids)}", pool_size=size, **options)
        self.borrow = self._pool.get_connection
        self.give_back = _close

    def close(self) -> None:
        self._pool._remove_connections()  # it has no public way

    def fill(self, number: int) -> None:
        super().fill(min(number, self.most))


class PsycopgPool(Peer):
    """psycopg_pool lending PyMySQL connections which say about themselves what psycopg's would say."""

    name = "psycopg_pool"

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        pool = load("psycopg_pool", "'psycopg[binary]' psycopg-pool").ConnectionPool
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns of each rollback
        kwargs = dict(connect)
        self._pool = pool(connection_class=_psycopg_like(), kwargs=kwargs, min_size=size, max_size=size, open=True)
        self._pool.wait(30)
        self.borrow = self._pool.getconn
        self.give_back = self._pool.putconn

    def close(self) -> None:
        self._pool.close()


def _psycopg_like() -> SimpleNamespace:
    """What psycopg_pool needs of a connection class, which is its `connect`; PyMySQL has another method so named."""
    status = load("psycopg.pq", "'psycopg[binary]'").TransactionStatus

    class PsycopgLike(pymysql.connections.Connection):
        _pool = None
        server_status: int

        @property
        def pgconn(self) -> PsycopgLike:
            return self

        @property
        def transaction_status(self) -> Any:
            if not self.open:
                return status.UNKNOWN
            return status.INTRANS if self.server_status & SERVER_STATUS_IN_TRANS else status.IDLE

        @property
        def closed(self) -> bool:
            return not self.open

    def connect(conninfo: str, **options: Any) -> PsycopgLike:
        return PsycopgLike(**options)

    return SimpleNamespace(connect=connect)


ALL: tuple[type[Peer], ...] = (
    Ours,
    Bare,
    ConnectPerQuery,
    PymysqlPool037,
    PymysqlPool050,
    DBUtils,
    DBUtilsUnchecked,
    SQLAlchemy,
    SQLAlchemyNoRollback,
    MySQLConnector,
    PsycopgPool,
)
WITH_DEFAULTS: tuple[type[Peer], ...] = tuple(
    kind for kind in ALL if kind not in (Bare, ConnectPerQuery, DBUtilsUnchecked, SQLAlchemyNoRollback)
)


class Peers:
    """Peers that are open at the same time: those that are there, and why the others are not."""

    def __init__(self, kinds: Iterable[type[Peer]], connect: Mapping[str, Any], size: int) -> None:
        self.open: dict[str, Peer] = {}
        self.missing: dict[str, str] = {}
        try:
            for kind in kinds:
                try:
                    self.open[kind.name] = kind(connect, size)
                except NotInstalled as error:
                    self.missing[kind.name] = str(error)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for peer in self.open.values():
            peer.close()

    def __enter__(self) -> dict[str, Peer]:
        return self.open

    def __exit__(self, *_: object) -> None:
        self.close()


# -- async -------------------------------------------------------------------------------------------------


class AsyncPeer:
    """The same, awaited. Made inside a running event loop by `open`."""

    name: str

    async def open(self, connect: Mapping[str, Any], size: int) -> None:
        raise NotImplementedError

    async def borrow(self) -> Any:
        raise NotImplementedError

    async def query(self, connection: Any) -> Any:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT 1")
            return await cursor.fetchall()

    async def give_back(self, connection: Any) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class OursAsync(AsyncPeer):
    name = f"{OURS}.aio"

    async def open(self, connect: Mapping[str, Any], size: int) -> None:
        try:
            from pymysqlpool import aio  # type: ignore[attr-defined,unused-ignore]
        except ImportError as error:
            raise NotInstalled("not part of this version") from error
        self._pool = aio.AsyncConnectionPool(size=size, maxsize=size, timeout=30, **connect)

    async def borrow(self) -> Any:
        return await self._pool.get_connection()

    async def give_back(self, connection: Any) -> None:
        await connection.close()

    async def close(self) -> None:
        await self._pool.close()


class OursInThreads(AsyncPeer):
    """The sync pool, one `asyncio.to_thread` around the whole of each operation."""

    name = f"{OURS}, to_thread"

    async def open(self, connect: Mapping[str, Any], size: int) -> None:
        self._peer = Ours(connect, size)

    async def borrow(self) -> Any:
        return self._peer.pool

    async def query(self, connection: Any) -> Any:
        return await asyncio.to_thread(self._cycle)

    def _cycle(self) -> Any:
        connection = self._peer.pool.get_connection(timeout=30)
        rows = query(connection)
        connection.close()
        return rows

    async def give_back(self, connection: Any) -> None:
        pass

    async def close(self) -> None:
        self._peer.close()


class _AsyncDriver(AsyncPeer):
    async def open(self, connect: Mapping[str, Any], size: int) -> None:
        options = {name: value for name, value in connect.items() if name != "ssl_disabled"}
        options["db"] = options.pop("database")
        self._pool = await load(self.name, self.name).create_pool(minsize=size, maxsize=size, **options)

    async def borrow(self) -> Any:
        return await self._pool.acquire()

    async def give_back(self, connection: Any) -> None:
        await _settled(self._pool.release(connection))

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()


async def _settled(result: Any) -> None:
    if hasattr(result, "__await__"):
        await result


class AioMySQL(_AsyncDriver):
    name = "aiomysql"


class AsyncMy(_AsyncDriver):
    name = "asyncmy"


ASYNC: tuple[type[AsyncPeer], ...] = (OursAsync, OursInThreads, AioMySQL, AsyncMy)


# -- pymysql-pool, whose import name is ours ---------------------------------------------------------------


def _cached(version: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "pymysqlpool", "peers", version, "pymysqlpool.py")


def load_pymysql_pool(version: str) -> ModuleType:
    """The module of one version of pymysql-pool, under another name.

    Raises:
        NotInstalled: `python -m benchmarks.peers` has not fetched it.
    """
    name = f"pymysql_pool_{version.replace('.', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    path = _cached(version)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NotInstalled(f"{NOT_INSTALLED} (python -m benchmarks.peers)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


def fetch_pymysql_pool(version: str) -> None:
    """Download one version and keep its one file in the cache folder."""
    path = _cached(version)
    if path.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", folder, f"pymysql-pool=={version}"], check=True, timeout=120)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read("pymysqlpool.py"))


def _main() -> None:
    for kind in (PymysqlPool037, PymysqlPool050):
        try:
            fetch_pymysql_pool(kind.version)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{kind.name} could not be fetched: {error}", file=sys.stderr)


if __name__ == "__main__":
    _main()
