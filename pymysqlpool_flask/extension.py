"""The extension: `g.db` is the request's connection, borrowed at first use, returned when the request is over.

What belongs to an application (its pools, its options) is in `app.extensions["pymysqlpool"]`; what belongs to a
request is a `RequestScope` in a holder on its `g`, kept by request object: where Flask (up to 3.1) lets several
requests share one `g`, each still has its own. The scope is closed by `teardown_request`, by `teardown_appcontext` and
by the signal after it, since each alone is left out or doubled in some version of Flask; closing twice is harmless.

Never: connects before a view asks, overrides a method of Flask, keeps an application, raises out of a teardown.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

import flask
from flask import Flask, current_app, has_app_context, has_request_context, request
from flask.signals import appcontext_pushed, appcontext_tearing_down, got_request_exception, request_started
from flask.wrappers import Request, Response
from pymysql import err
from werkzeug.exceptions import ServiceUnavailable

from pymysqlpool import Connection, ConnectionPool, GetConnectionFromPoolError, PoolUnavailable
from pymysqlpool.health import Health, HealthCheck
from pymysqlpool.refusals import RefusalLog
from pymysqlpool.request_scope import (
    SAFE_METHODS,
    NoRequestScopeError,
    RequestScope,
    Watch,
    commits,
    current_scope,
    server_timing,
)
from pymysqlpool.reuse import is_lost
from pymysqlpool.transaction import transaction
from pymysqlpool.wsgi import DEADLINE, SCOPE

from . import cli, config
from .config import AppOptions, BindOptions
from .nesting import Nesting
from .streams import STREAMED, LateRefusal

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from flask.ctx import _AppCtxGlobals

    class PoolGlobals(_AppCtxGlobals):
        """Flask's `g` for a type checker: `g.db` is a connection. Derive from it for names of your own."""

        @property
        def db(self) -> Connection: ...

else:
    PoolGlobals = object

EXTENSION = "pymysqlpool"
_HOLDER = "_pymysqlpool"  # its name on g
_NO_TRANSACTION = "_pymysqlpool_no_transaction"
_REVALIDATE = 5.0  # seconds: outside of requests, as in a shell, a lease idle for longer is pinged before its next use
_View = TypeVar("_View", bound=Callable[..., Any])

g = cast("PoolGlobals", flask.g)


def no_transaction(view: _View) -> _View:
    """Decorate a view that `transaction="request"` leaves alone: it commits by itself."""
    setattr(view, _NO_TRANSACTION, True)
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
        _install_names(app, state)
        app.extensions[EXTENSION] = state
        app.after_request(state.before_the_head)
        app.teardown_request(state.end_request)
        app.teardown_appcontext(state.end_context)
        # The receivers die with the application: it is the sender, and owns the state.
        appcontext_tearing_down.connect(state.sweep, app, weak=False)
        appcontext_pushed.connect(state.begin_context, app, weak=False)
        got_request_exception.connect(state.note_exception, app, weak=False)
        if state.options.deadline is not None:
            request_started.connect(state.note_start, app, weak=False)
        if GetConnectionFromPoolError not in app.error_handler_spec[None][None]:
            app.register_error_handler(GetConnectionFromPoolError, state.refuse)
        for kind in (err.OperationalError, err.InterfaceError):
            if kind not in app.error_handler_spec[None][None]:
                app.register_error_handler(kind, state.refuse_when_lost)
        app.wsgi_app = LateRefusal(app.wsgi_app, partial(state.refuse_late, app))  # type: ignore[method-assign]
        if state.options.share_nested_contexts:
            request_started.connect(state.note_nesting, app, weak=False)
            app.wsgi_app = state.nesting.around(app.wsgi_app, state.is_streamed)  # type: ignore[method-assign, assignment]
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
        """The pool of `bind` (default: of PYMYSQLPOOL) in `app` (default: the current application)."""
        return self._state(app).pool(bind)

    def get_connection(self, bind: str | None = None) -> Connection:
        """The current request's connection to `bind`, borrowed at the first call; it is returned for you.

        Raises:
            NoRequestScopeError: no application context is active, or it has ended.
            GetConnectionFromPoolError: none could be had; unless you handle it, the answer is a 503.
        """
        return self._state(None).connection(bind)

    def transaction(self, bind: str | None = None) -> AbstractContextManager[Connection]:
        """`with db.transaction():` commits the block at its end and undoes it at an exception; nests by savepoints."""
        return transaction(self.get_connection(bind))

    def health(self, bind: str | None = None) -> Health:
        """For a readiness check: `health = db.health()`, then `return health.as_json(), health.status`.

        It borrows nothing and waits for nobody. A pool that is exhausted and works is ready; that a database is down is
        known after a second. A liveness check does not ask the database at all.
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


class _Holder:
    """What one `g` has borrowed."""

    __slots__ = ("ended", "exception", "scopes")

    def __init__(self) -> None:
        self.scopes: dict[Request | None, RequestScope] = {}  # None: without a request, as in a command
        self.ended = False  # the context has been torn down, and not pushed again
        self.exception: BaseException | None = None  # what the request died of, if unhandled


class _Outer:
    """The request that is being served, for contexts pushed inside it."""

    __slots__ = ("holder", "over", "request")

    def __init__(self, holder: _Holder, request: Request) -> None:
        self.holder = holder
        self.request = request
        self.over = False  # torn down; a stream may yet push its context again

    @property
    def lends(self) -> bool:
        return self.request in self.holder.scopes or not (self.over or self.holder.ended)


class AppState:
    """An application's pools and options, and what happens at the ends of its requests."""

    def __init__(self, extension: PyMySQLPool, options: AppOptions, binds: dict[str | None, BindOptions]) -> None:
        self.extension = extension
        self.options = options
        self.binds = binds
        self.nesting: Nesting[_Outer] = Nesting()
        self._refusals = RefusalLog()
        self._watch = Watch(options.slow_wait, options.long_hold)
        self._lock = Lock()  # guards making a pool
        self._pools: dict[str | None, ConnectionPool] = {}
        self._health: dict[str | None, HealthCheck] = {}

    def pool(self, bind: str | None) -> ConnectionPool:
        """Made at the first use, since `pre_create_num` connects."""
        pool = self._pools.get(bind)
        if pool is None:
            if bind not in self.binds:
                known = ", ".join(repr(name) for name in self.binds)
                raise KeyError(f"app.config knows no database {bind!r}, only {known}; see {config.BINDS_KEY}")
            with self._lock:
                pool = self._pools.get(bind)
                if pool is None:
                    pool = self._pools[bind] = ConnectionPool(**self.binds[bind].pool)
        return pool

    def health(self, bind: str | None) -> Health:
        check = self._health.get(bind)
        return (check or self._health.setdefault(bind, HealthCheck(self.pool(bind))))()

    def connection(self, bind: str | None) -> Connection:
        return self._scope().connection(self.pool(bind))

    def _scope(self) -> RequestScope:
        # Threads of one request may race for holder and scope; the first wins.
        holder = cast("_Holder", flask.g.setdefault(_HOLDER, _Holder()))
        if holder.ended:
            raise NoRequestScopeError(
                "the request that this code belongs to has ended and its connections have gone back; a thread or "
                "task that outlives it uses `with app.app_context():` or `with pool.scope():`"
            )
        key = _current_request()
        outer = self.nesting.outer
        if outer is not None and outer.lends:
            holder, key = outer.holder, outer.request
        return self._scope_in(holder, key)

    def _scope_in(self, holder: _Holder, key: Request | None) -> RequestScope:
        if key is not None:
            around = current_scope()
            announced: object = key.environ.get(SCOPE)
            if around is not None and not around.closed and announced is around:
                return around  # the WSGI middleware is there too: one lease, and it gives it back
        scope = holder.scopes.get(key)
        return scope or holder.scopes.setdefault(key, self._new_scope(key))

    def _new_scope(self, key: Request | None) -> RequestScope:
        if key is None:
            return RequestScope(watch=self._watch, label="an application context", revalidate=_REVALIDATE)
        view = current_app.view_functions.get(key.endpoint or "")
        left_out = getattr(view, _NO_TRANSACTION, False) or (
            key.method in SAFE_METHODS and not self.options.transaction_on_get
        )
        return RequestScope(
            transaction=None if left_out else self.options.transaction,
            watch=self._watch,
            label=f"{key.method} {key.path} ({key.endpoint})",
            deadline=key.environ.get(DEADLINE),
        )

    def note_start(self, sender: Flask, **_: Any) -> None:
        assert self.options.deadline is not None
        request.environ.setdefault(DEADLINE, monotonic() + self.options.deadline)

    def note_nesting(self, sender: Flask, **_: Any) -> None:
        served = _current_request()
        assert served is not None
        self.nesting.begin(_Outer(cast("_Holder", flask.g.setdefault(_HOLDER, _Holder())), served))

    @staticmethod
    def is_streamed(environ: WSGIEnvironment) -> bool:
        return bool(environ.get(STREAMED))

    # -- the ends of a request, in the order in which they come ----------------------------------------------

    def before_the_head(self, response: Response) -> Response:
        """The commit point: a COMMIT that fails here is still a 500."""
        if response.is_streamed and not response.direct_passthrough:
            request.environ[STREAMED] = True
        holder = _holder()
        scope = holder.scopes.get(_current_request()) if holder is not None else None
        if holder is not None and scope is not None:
            veto, headers = self.options.commit_veto, list(response.headers)
            scope.finish(commit=commits(response.status_code, headers, holder.exception, veto))
            if self.options.server_timing and scope.uses:
                response.headers.add("Server-Timing", server_timing(scope))
        return response

    def end_request(self, exception: BaseException | None) -> None:
        holder, ending, outer = _holder(), _current_request(), self.nesting.outer
        if outer is not None and outer.request is ending:
            outer.over = True
        scope = holder.scopes.pop(ending, None) if holder is not None else None
        if scope is not None:
            scope.close(exception)

    def end_context(self, exception: BaseException | None) -> None:
        holder = _holder()
        if holder is not None and any(key is not None for key in holder.scopes):
            self._name_culprit(sys.exc_info()[1])
        while holder is not None and holder.scopes:
            _, scope = holder.scopes.popitem()
            scope.close(exception)

    def _name_culprit(self, error: BaseException | None) -> None:
        """Ours has not run: in Flask up to 3.1, a function of `teardown_request` that raises stops the others."""
        step = error.__traceback__ if error is not None else None
        while step is not None and step.tb_frame.f_code.co_name != "do_teardown_request":
            step = step.tb_next
        if step is not None and (step := step.tb_next) is not None:
            code = step.tb_frame.f_code
            current_app.logger.warning(
                "The teardown function %s (%s:%d) raised %r and kept others from running; the connection of this "
                "request was given back without it",
                code.co_qualname,
                code.co_filename,
                step.tb_lineno,
                error,
            )

    def sweep(self, sender: Flask, exc: BaseException | None = None, **_: Any) -> None:
        """After all teardown functions: what they borrowed after ours had run."""
        self.end_context(exc)
        holder = _holder()
        if holder is not None:
            holder.ended = True

    def begin_context(self, sender: Flask, **_: Any) -> None:
        """A context is pushed; perhaps again, for a stream or by the test client."""
        holder = _holder()
        if holder is not None:
            holder.ended = False

    def note_exception(self, sender: Flask, exception: BaseException, **_: Any) -> None:
        holder = _holder()
        if holder is not None:
            holder.exception = exception

    # -- no connection ---------------------------------------------------------------------------------------

    def refuse_when_lost(self, error: err.MySQLError) -> Any:
        """503 when the database went away under the request; any other error is yours, as if this handler were not."""
        if is_lost(error):
            return self.refuse(error)
        handler = _handler_of(error, but_not=self.refuse_when_lost)
        if handler is None:
            raise error
        return current_app.ensure_sync(handler)(error)

    def refuse_late(self, app: Flask, environ: WSGIEnvironment, error: err.MySQLError) -> Response | None:
        """The same for a stream that has not begun, after its request: in another context of it."""
        if not isinstance(error, GetConnectionFromPoolError) and not is_lost(error):
            return None
        with app.request_context(environ):
            return app.make_response(self.refuse(error))

    def refuse(self, error: err.MySQLError) -> Any:
        """503 with Retry-After. An `errorhandler` of yours for 503, or for this error, replaces it."""
        where = f"{request.method} {request.path} ({request.endpoint})" if has_request_context() else "a request"
        if isinstance(error, GetConnectionFromPoolError):
            level = logging.ERROR if isinstance(error, PoolUnavailable) else logging.WARNING
            self._refusals.note(where, error, log=current_app.logger, level=level)
        else:
            current_app.logger.error("%s was answered 503: %s", where, error)
        busy = ServiceUnavailable(
            "The database is busy or out of reach at the moment. Please try again soon.",
            retry_after=self.options.retry_after,
        )
        handler = _handler_of(busy)
        return current_app.ensure_sync(handler)(busy) if handler is not None else busy


def _handler_of(error: Exception, but_not: Callable[..., Any] | None = None) -> Callable[[Any], Any] | None:
    """The user's error handler for `error`, found as Flask finds it, whose method for it differs between versions."""
    names = (*request.blueprints, None) if has_request_context() else (None,)
    for code in {getattr(error, "code", None): 0, None: 0}:
        for name in names:
            handlers = current_app.error_handler_spec[name][code]
            for kind in type(error).__mro__:
                if kind in handlers and handlers[kind] != but_not:
                    return handlers[kind]
    return None


def _holder() -> _Holder | None:
    return cast("_Holder | None", flask.g.get(_HOLDER))


def _current_request() -> Request | None:
    return cast("Any", request)._get_current_object() if has_request_context() else None


def _install_names(app: Flask, state: AppState) -> None:
    """Give the application's `g` a property for each database. A value that the user stores there wins."""
    names: dict[str, property] = {}
    for bind, options in state.binds.items():
        if options.g_name is not None:
            if hasattr(app.app_ctx_globals_class, options.g_name):
                raise config.ConfigError(f"g_name={options.g_name!r} is taken: g has an attribute of that name")
            names[options.g_name] = _name_on_g(options.g_name, state, bind)
    base = app.app_ctx_globals_class
    app.app_ctx_globals_class = cast("type[_AppCtxGlobals]", type(base.__name__, (base,), names))


def _name_on_g(name: str, state: AppState, bind: str | None) -> property:
    def get(self: Any) -> Any:
        own = self.__dict__
        return own[name] if name in own else state.connection(bind)

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    def remove(self: Any) -> None:
        if self.__dict__.pop(name, self) is self:
            raise AttributeError(name)

    return property(get, put, remove, f"This request's connection to {bind or 'the database'}, borrowed at first use.")
