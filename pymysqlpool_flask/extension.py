"""The extension: `g.db` is the request's connection, borrowed at first use, returned when the request is over.

The pools and options of an application are in `app.extensions["pymysqlpool"]` and live as long as it does. The
connections of a request are in a `RequestScope`, in a holder on its `g`. `state` says which scope code belongs to,
`endings` when it is given back, `commits` what is committed, `refusals` which errors become a 503.

Never: connects before a view asks, overrides a method of Flask, keeps an application.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import flask
from flask import Flask, current_app, has_app_context
from flask.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    got_request_exception,
    request_finished,
    request_started,
)

from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.health import Health
from pymysqlpool.request_scope import NoRequestScopeError
from pymysqlpool.transaction import transaction

from . import cli, config, names
from .commits import CommitPoint
from .endings import Endings
from .head import STREAM, HeadKeeper
from .refusals import Refusals
from .state import EXTENSION, NO_TRANSACTION, AppState

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals

    class PoolGlobals(_AppCtxGlobals):
        """Flask's `g` for a type checker: `g.db` is a connection. Derive from it for names of your own."""

        @property
        def db(self) -> Connection: ...

else:
    PoolGlobals = object

_View = TypeVar("_View", bound=Callable[..., Any])

g: PoolGlobals = cast("PoolGlobals", flask.g)


def no_transaction(view: _View) -> _View:
    """Decorate a view that commits itself: `transaction="request"` does not apply to it."""
    setattr(view, NO_TRANSACTION, True)
    return view


class PyMySQLPool:
    """Pools for Flask applications: `db = PyMySQLPool(app)`, or `init_app(app)` for each of several.

    Args:
        app: an application to set up at once; its config must be complete.
        name: what the connection is called on `g`; None for nothing there, only `db.connection`.
    """

    def __init__(self, app: Flask | None = None, *, name: str | None = "db") -> None:
        self._name = name
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up `app` by its config. Opens no connection.

        Raises:
            ConfigError: see `pymysqlpool_flask.config`.
            RuntimeError: the application has been set up already.
        """
        if EXTENSION in app.extensions:
            raise RuntimeError(
                "this application has a PyMySQLPool already; further databases go into "
                f"app.config[{config.BINDS_KEY!r}]"
            )
        state = AppState(self, *config.read(app.config, self._name))
        if state.carrier is not None and app.secret_key:
            state.carrier.of(app)  # so that what is wrong is said here
        names.install(app, state.binds, state.connection)
        app.extensions[EXTENSION] = state
        endings = Endings(state)
        app.teardown_request(endings.end_request)
        app.teardown_appcontext(endings.end_context)
        # The application owns the receivers and the signals do not, so they die with it.
        request_finished.connect(endings.note_stream, app)
        appcontext_tearing_down.connect(endings.sweep, app)
        appcontext_popped.connect(endings.leave, app)
        appcontext_pushed.connect(endings.begin_context, app)
        got_request_exception.connect(endings.note_exception, app)
        if state.options.transaction is not None:
            request_started.connect(state.ahead.note_context, app)
        if state.options.deadline is not None:
            request_started.connect(state.note_start, app)
        refusals = Refusals(state.options.retry_after)
        refusals.install(app)
        app.wsgi_app = HeadKeeper(app.wsgi_app, CommitPoint(app, state, refusals))  # type: ignore[method-assign]
        if state.options.share_nested_contexts:
            request_started.connect(state.note_nesting, app)
            around = state.nesting.around(app.wsgi_app, lambda environ: environ[STREAM].is_one)
            app.wsgi_app = around  # type: ignore[method-assign, assignment]
        app.cli.add_command(cli.pool)
        app.shell_context_processor(lambda: {self._name or "db": self})

    @property
    def pool(self) -> ConnectionPool:
        """The current application's pool."""
        return self.get_pool()

    @property
    def connection(self) -> Connection:
        """The current request's connection: what `g.db` is, for a type checker."""
        return self.get_connection()

    def get_pool(self, bind: str | None = None, app: Flask | None = None) -> ConnectionPool:
        """Return the pool of `bind` (default: of PYMYSQLPOOL) in `app` (default: the current application)."""
        return self._state(app).pool(bind)

    def get_connection(self, bind: str | None = None) -> Connection:
        """The current request's connection to `bind`, borrowed at the first call; it is returned for you.

        Raises:
            NoRequestScopeError: no application context is active, or it has ended.
            GetConnectionFromPoolError: none could be had; unless you handle it, the answer is a 503.
        """
        return self._state(None).connection(bind)

    def add_bind(self, name: str, options: Mapping[str, Any], app: Flask | None = None) -> None:
        """Add a database at run time, such as a new tenant's: `options` are those of an entry of PYMYSQLPOOL_BINDS.

        Only this process knows it. Opens no connection.

        Raises:
            ConfigError: there is one of that name, or an option cannot be used.
        """
        bind = config.read_bind(name, options)
        if bind.g_name is not None:
            raise config.ConfigError("g_name is for databases that are known at the start; use get_connection()")
        self._state(app).add(name, bind)

    def remove_bind(self, name: str, app: Flask | None = None) -> None:
        """Forget a database of `add_bind` or PYMYSQLPOOL_BINDS, and close its pool, see `ConnectionPool.close`.

        Raises:
            KeyError: there is none of that name.
        """
        self._state(app).remove(name)

    def transaction(self, bind: str | None = None) -> AbstractContextManager[Connection]:
        """`with db.transaction():` commits the block at its end and undoes it at an exception; nests by savepoints."""
        return transaction(self.get_connection(bind))

    def health(self, bind: str | None = None) -> Health:
        """Check readiness: `health = db.health()`, then `return health.as_json(), health.status`.

        It borrows nothing and does not queue. An exhausted pool that works is ready; a database that is down is found
        after a second. A liveness check should not ask the database at all.
        """
        return self._state(None).health(bind)

    def _state(self, app: Flask | None) -> AppState:
        if app is None and not has_app_context():
            raise NoRequestScopeError(
                "there is no request here: use `with app.app_context():`, or outside of Flask `db.get_pool(app=app)` "
                "and `with pool.scope():` or `with pool.get_connection() as connection:`"
            )
        state = (app or current_app).extensions.get(EXTENSION)
        if state is None or state.extension is not self:
            raise RuntimeError("this PyMySQLPool has not been set up for the application: call init_app(app)")
        return cast("AppState", state)
