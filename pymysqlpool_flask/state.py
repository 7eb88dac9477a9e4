"""An application's pools and options, and the scope that the running code belongs to.

It is in `app.extensions["pymysqlpool"]`, the only reference to it, so it lives as long as the application.

Never: gives connections back, answers a request.
"""

from __future__ import annotations

from threading import RLock
from time import monotonic
from typing import Any, cast

from flask import Flask, current_app, request
from flask.wrappers import Request

from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.advice import warn_of_missing_timeouts
from pymysqlpool.cluster import Cluster
from pymysqlpool.health import Health, HealthCheck
from pymysqlpool.request_scope import (
    SAFE_METHODS,
    NoRequestScopeError,
    RequestScope,
    TransactionMode,
    Watch,
    current_scope,
)
from pymysqlpool.wsgi import DEADLINE, SCOPE, SocketConnection, is_websocket

from . import config
from .ahead import Ahead
from .carried import Carrier
from .config import AppOptions, BindOptions
from .holders import Holder, Outer, current_request, holder
from .nesting import Nesting

EXTENSION = "pymysqlpool"
NO_TRANSACTION = "_pymysqlpool_no_transaction"  # an attribute of views
_REVALIDATE = 5.0  # seconds: outside of requests, as in a shell, a lease idle for longer is pinged before its next use


class AppState:
    """The pools, options and scopes of one application."""

    def __init__(self, extension: object, options: AppOptions, binds: dict[str | None, BindOptions]) -> None:
        self.extension = extension
        self.options = options
        self.binds = binds
        self.nesting: Nesting[Outer] = Nesting()
        self.ahead: Ahead = Ahead()
        self.carrier: Carrier | None = Carrier(options.carry_commits) if options.carry_commits else None
        self._watch = Watch(options.slow_wait, options.long_hold)
        self._lock = RLock()  # guards the creation of pools; reentrant, for a finalizer that uses one meanwhile
        self._pools: dict[str | None, ConnectionPool] = {}
        self._health: dict[str | None, HealthCheck] = {}

    def pool(self, bind: str | None) -> ConnectionPool:
        """Return the pool of a database; create it at the first use, since `pre_create_num` connects."""
        pool = self._pools.get(bind)
        if pool is None:
            if bind not in self.binds:
                raise KeyError(self._unknown(bind))
            with self._lock:
                pool = self._pools.get(bind)
                if pool is None:
                    pool = self._pools.setdefault(bind, self._new_pool(self.binds[bind]))
        return pool

    def _unknown(self, bind: str | None) -> str:
        named = sorted(name for name in self.binds if name is not None)
        known = "it has " + ", ".join(map(repr, named)) if named else "it has none"
        return f"{config.BINDS_KEY} has no database {bind!r}, {known}; without a name it is the one of {config.KEY}"

    def _new_pool(self, options: BindOptions) -> ConnectionPool:
        """Create a pool, or the target of a cluster, which lends in the same way."""
        if options.cluster is None:
            pool = ConnectionPool(**options.pool)
            warn_of_missing_timeouts(pool)
            return pool
        if options.replica_of is not None:
            return cast(ConnectionPool, cast(Any, self.pool(None)).cluster.replica)
        cluster = Cluster(**options.cluster, **options.pool)
        warn_of_missing_timeouts(cluster.lending.pools[0])
        return cast(ConnectionPool, cluster.primary)

    def add(self, bind: str, options: BindOptions) -> None:
        with self._lock:
            if bind in self.binds:
                raise config.ConfigError(f"there is a database {bind!r} already; remove_bind() it first")
            self.binds[bind] = options

    def remove(self, bind: str) -> None:
        with self._lock:
            if self.binds.pop(bind, None) is None:
                raise KeyError(f"there is no database {bind!r} to remove")
            self._health.pop(bind, None)
            pool = self._pools.pop(bind, None)
        if pool is not None:
            pool.close()

    def health(self, bind: str | None) -> Health:
        check = self._health.get(bind)
        return (check or self._health.setdefault(bind, HealthCheck(self.pool(bind))))()

    def connection(self, bind: str | None) -> Connection:
        pool, its, request = self.pool(bind), holder(), current_request()
        scope = self._scope(its, request)
        if request is not None and is_websocket(request.environ):
            sockets = its.sockets
            socket = sockets.get((scope, pool)) or sockets.setdefault((scope, pool), SocketConnection(scope, pool))
            return cast("Connection", socket)
        return scope.connection(pool)

    def _scope(self, its: Holder, key: Request | None) -> RequestScope:
        if its.ended:
            raise NoRequestScopeError(
                "the request that this code belongs to has ended and its connections have gone back; a thread or "
                "task that outlives it uses `with app.app_context():` or `with pool.scope():`"
            )
        outer = self.nesting.outer
        if outer is not None and outer.lends:
            its, key = outer.holder, outer.request
        return self._scope_in(its, key)

    def _scope_in(self, its: Holder, key: Request | None) -> RequestScope:
        if key is not None:
            around = current_scope()
            announced: object = key.environ.get(SCOPE)
            if around is not None and not around.closed and announced is around:
                if around.transaction is None and self._transaction_of(its, key) is not None:
                    around.join_transaction()
                return around  # the WSGI middleware is there too: one lease, and it gives it back
        scope = its.scopes.get(key)
        if scope is None and key is None and its.scopes:
            # The request's context is gone and the application's is torn down: one lease is enough for what is left.
            scope = next(reversed(its.scopes.values()), None)
        return scope or its.scopes.setdefault(key, self._new_scope(its, key))

    def _new_scope(self, its: Holder, key: Request | None) -> RequestScope:
        if key is None:
            return RequestScope(watch=self._watch, label="an application context", revalidate=_REVALIDATE)
        scope = RequestScope(
            transaction=self._transaction_of(its, key),
            watch=self._watch,
            label=f"{key.method} {key.path} ({key.endpoint})",
            deadline=None if is_websocket(key.environ) else key.environ.get(DEADLINE),
        )
        if self.carrier is not None:
            self.carrier.receive(scope, self.pool(None), key)
        return scope

    def _transaction_of(self, its: Holder, request: Request) -> TransactionMode:
        if self.options.transaction is None:
            return None
        view = current_app.view_functions.get(request.endpoint or "")
        left_out = (
            is_websocket(request.environ)
            or not self.ahead.of(request.environ, its)
            or getattr(view, NO_TRANSACTION, False)
            or (request.method in SAFE_METHODS and not self.options.transaction_on_get)
        )
        return None if left_out else self.options.transaction

    def note_start(self, sender: Flask, **_: Any) -> None:
        """Called with `deadline` when a request begins."""
        assert self.options.deadline is not None
        request.environ.setdefault(DEADLINE, monotonic() + self.options.deadline)

    def note_nesting(self, sender: Flask, **_: Any) -> None:
        """Called with `share_nested_contexts` when a request begins."""
        served = current_request()
        assert served is not None
        self.nesting.begin(Outer(holder(), served))
