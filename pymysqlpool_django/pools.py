"""The pools of this process: (process, alias, connection parameters and pool options) -> pool.

Owns the choice of the pool to borrow from, and the end of pools. Never: lets a pool refer to a DatabaseWrapper, or keep
one alive.

The alias alone is not enough: Django's test runner changes `settings_dict["NAME"]` in place, and a pool opened before
would go on serving the production database. So a pool is looked up by all settings it was made from. When the settings
of an alias change, the idle connections of its older pools are closed: none blocks a DROP DATABASE, and none made with
an old password stays. The pools of an alias that was removed from DATABASES at run time end when the next pool is made,
or at `del connections[alias]` (see `aliases`).

A forked child starts with no pools (Invariant 13): a thread that exists only in the parent may hold the lock.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started
from django.db import connections

from pymysqlpool import ConnectionPool, PoolStats, SettingsError
from pymysqlpool.advice import warn_of_missing_timeouts
from pymysqlpool.cluster import Cluster

from . import options

# A SET of variables, which more assignments can be appended to.
_SETS_VARIABLES = re.compile(
    r"\s*SET\s(?!\s*(?:(?:SESSION|GLOBAL|LOCAL)\s+)?(?:TRANSACTION|PASSWORD|ROLE|DEFAULT|STATEMENT|RESOURCE)\b)"
    r"(?![^;]*(?:--|\#|/\*))[^;]*;?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PoolKey:
    """The settings that a pool is made from; equal keys share a pool. Holds the password, concealed."""

    params: Mapping[str, Any]  # arguments for PyMySQL
    isolation_level: str | None
    pool: Any  # OPTIONS["pool"] as written

    def matches(self, params: Mapping[str, Any], isolation_level: str | None, pool: Any) -> bool:
        """Return whether a key made of these would be equal."""
        return self.params == params and self.isolation_level == isolation_level and self.pool == pool

    def __repr__(self) -> str:
        return "<PoolKey>"


class PooledDatabase:
    """One pool, and Django's data about its server.

    Attributes:
        cluster: the cluster whose target `pool` is, where the alias has several hosts.
        is_current: it is in the registry of `process`, the id of the process that made it.
        is_listed: its alias is in DATABASES; not so for `connection.copy()` and the like.
        key: what it was made from.
        release_after_transaction: see `options.PoolOptions`.
        server_data: Django's `mysql_server_data`, asked once.
        sets_up: the pool sets sessions up for Django; if not, the wrapper does so at each checkout.
    """

    __slots__ = (
        "_made_from",
        "alias",
        "cluster",
        "is_current",
        "is_listed",
        "key",
        "pool",
        "process",
        "release_after_transaction",
        "server_data",
        "sets_up",
    )

    def __init__(self, alias: str, key: PoolKey, health_checks: bool, others: Iterable[PooledDatabase] = ()) -> None:
        """Make the pool; of a cluster that one of the `others` has, where it is made from the same."""
        understood = options.read(alias, key.pool, health_checks)
        params = dict(key.params)
        setup = session_setup(params.get("init_command"), key.isolation_level)
        self.sets_up: bool = setup is not None
        if setup is not None:
            params["init_command"] = setup
        options.check(alias, understood, params)
        self.cluster: Cluster | None = None
        self._made_from = (params, understood.core, understood.cluster)
        try:
            if understood.cluster is None:
                self.pool: ConnectionPool = ConnectionPool(**params, **understood.core)
                _warn_when_it_serves(self.pool)
            else:
                shared = (other.cluster for other in others if other.cluster and other._made_from == self._made_from)
                self.cluster = next(shared, None) or understood.make_cluster(params)
                self.pool = cast(ConnectionPool, self.cluster.target(understood.target))
                _warn_when_it_serves(self.cluster.lending.pools[0])
        except SettingsError as error:
            raise ImproperlyConfigured(f"DATABASES[{alias!r}]: {error}") from error
        self.release_after_transaction: bool = understood.release_after_transaction
        self.server_data: dict[str, Any] | None = None
        self.alias: str = alias
        self.process: int = os.getpid()
        self.is_current: bool = True
        self.is_listed: bool = alias in connections.settings
        self.key: PoolKey = key


def session_setup(init_command: object, isolation_level: str | None) -> str | None:
    """One statement that sets up a session for Django after the user's `init_command`; None if that cannot be joined.

    The pool repeats it whenever it resets a session. PyMySQL takes one statement only, so the isolation level is
    set by variable. Its name is tx_isolation in MariaDB and transaction_isolation in MySQL; each reads its own comment.
    """
    assignments = ["SESSION sql_auto_is_null = 0"]
    if isolation_level:
        level = isolation_level.upper().replace(" ", "-")
        assignments.append(f"SESSION /*M!100000 tx_isolation *//*!80000 transaction_isolation */ = '{level}'")
    if not init_command:
        return "SET " + ", ".join(assignments)
    if not isinstance(init_command, str) or not _SETS_VARIABLES.fullmatch(init_command):
        return None
    return ", ".join([init_command.rstrip("; \t\r\n"), *assignments])


def _warn_when_it_serves(pool: ConnectionPool) -> None:
    """Warn of missing options at the next request; commands of manage.py serve none."""
    reference = weakref.ref(pool)

    def warn(**_: object) -> None:
        request_started.disconnect(warn)
        if (its := reference()) is not None:
            warn_of_missing_timeouts(its)

    request_started.connect(warn, weak=False)


class _Registry:
    """The pools of one process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer inside must not wait for its own thread
        # By alias. The tuples are replaced, never changed; _lock guards writing.
        self._databases: dict[str, tuple[PooledDatabase, ...]] = {}
        self._forgotten: dict[str, tuple[PooledDatabase, ...]] = {}  # deleted, with connections lent; the same

    def find(self, alias: str, key: PoolKey) -> PooledDatabase | None:
        for database in self._databases.get(alias, ()):
            if database.key == key:
                return database
        return None

    def add(self, alias: str, key: PoolKey, health_checks: bool) -> PooledDatabase:
        """Return the database for `key`: a new one, unless another thread was faster."""
        with self._lock:
            found = self.find(alias, key)
            if found is not None:
                return found
            new = PooledDatabase(alias, key, health_checks, [one for all_ in self._databases.values() for one in all_])
            forgotten = [
                one
                for name, several in list(self._databases.items())
                if name != alias and name not in connections.settings
                for one in several
                if one.is_listed
            ]
            older = self._databases.get(alias, ())
            kept = [database for database in older if database.pool.stats().total]
            self._databases[alias] = (new, *kept)
            for one in forgotten:
                self._databases.pop(one.alias, None)
            for database in (*older, *forgotten):
                database.is_current = database in kept
        for database in (*older, *forgotten):
            database.pool.drain()
        return new

    def remove(self, alias: str, forget: bool = False) -> None:
        with self._lock:
            removed = self._databases.pop(alias, ())
            for database in removed:
                database.is_current = False
            if forget and removed:
                self._forgotten[alias] = (*self._forgotten.get(alias, ()), *removed)
        for database in removed:
            database.pool.drain()

    def forgotten(self) -> list[str]:
        if not self._forgotten:
            return []
        for database in [one for several in list(self._forgotten.values()) for one in several]:
            database.pool.drain()  # takes back what threads that have ended had borrowed
        with self._lock:
            for alias, databases in list(self._forgotten.items()):
                if not any(database.pool.stats().total for database in databases):
                    del self._forgotten[alias]
            return list(self._forgotten)

    def all(self) -> dict[str, list[ConnectionPool]]:
        return {alias: [database.pool for database in databases] for alias, databases in list(self._databases.items())}


_registries: dict[int, _Registry] = {}  # by process id


def _registry() -> _Registry:
    pid = os.getpid()
    registry = _registries.get(pid)
    if registry is None:
        registry = _registries.setdefault(pid, _Registry())
        for inherited in [other for other in list(_registries) if other != pid]:
            for pools in _registries.pop(inherited).all().values():
                for pool in pools:
                    pool.stats()  # the first question makes a pool drop the sockets that came along with the fork
    return registry


def find(alias: str, key: PoolKey) -> PooledDatabase | None:
    """Return the pooled database for exactly this `key`, or None."""
    return _registry().find(alias, key)


def is_current(database: PooledDatabase) -> bool:
    """Return whether `find` would return it, in this process."""
    return database.is_current and database.process == os.getpid()


def make(alias: str, key: PoolKey, health_checks: bool) -> PooledDatabase:
    """Create it, or return the one that another thread has created meanwhile. Opens no connection.

    Raises:
        ImproperlyConfigured: an option has a wrong value.
    """
    return _registry().add(alias, key, health_checks)


def close(alias: str) -> None:
    """Close the idle connections of an alias now, others when they are given back. The next query makes a pool."""
    _registry().remove(alias)


def forget(alias: str) -> None:
    """As `close`, for an alias that is deleted."""
    _registry().remove(alias, forget=True)


def forgotten() -> list[str]:
    """Return the aliases that `forget` was called for and whose connections have not all been given back."""
    return _registry().forgotten()


def stats() -> dict[str, list[PoolStats]]:
    """Return the numbers of this process's pools by alias; several if the alias had several settings."""
    return {alias: [pool.stats() for pool in pools] for alias, pools in _registry().all().items()}


def _close_at_exit() -> None:
    """End the idle connections with COM_QUIT at the end of the process, so that the server counts no aborted ones."""
    registry = _registries.get(os.getpid())
    for alias in list(registry.all()) if registry is not None else ():
        close(alias)


atexit.register(_close_at_exit)
