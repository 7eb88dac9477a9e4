"""`g.db` and the names of the other databases: properties of the application's `g`.

Never: borrows before the property is asked, takes a name that is in use, overrides a value that the user stores there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

from flask import Flask

from pymysqlpool import Connection

from .config import BindOptions, ConfigError

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals

_Connect = Callable[[str | None], Connection]


class FailedConnection:
    """Takes the place of a connection whose creation failed with an AttributeError: every use raises that error.

    A property must not raise it: Python and Flask would conclude that `g` has no such attribute.
    """

    def __init__(self, error: AttributeError) -> None:
        self.__dict__["_error"] = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.__dict__["_error"]

    def __enter__(self) -> NoReturn:
        raise self.__dict__["_error"]

    def __exit__(self, *_: object) -> None: ...

    def __repr__(self) -> str:
        return f"<no connection: {self.__dict__['_error']!r}>"


def install(app: Flask, binds: dict[str | None, BindOptions], connect: _Connect) -> None:
    """Give the application's `g` a property for each database.

    Raises:
        ConfigError: a name is taken.
    """
    names: dict[str, property] = {}
    for bind, options in binds.items():
        if options.g_name is not None:
            if hasattr(app.app_ctx_globals_class, options.g_name):
                raise ConfigError(f"g_name={options.g_name!r} is taken: g has an attribute of that name")
            names[options.g_name] = _property(options.g_name, connect, bind)
    base = app.app_ctx_globals_class
    app.app_ctx_globals_class = cast("type[_AppCtxGlobals]", type(base.__name__, (base,), names))


def _property(name: str, connect: _Connect, bind: str | None) -> property:
    def get(self: Any) -> Any:
        own = self.__dict__
        if name in own:
            return own[name]
        try:
            return connect(bind)
        except AttributeError as error:
            return FailedConnection(error)

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    def remove(self: Any) -> None:
        if self.__dict__.pop(name, self) is self:
            raise AttributeError(name)

    return property(get, put, remove, f"This request's connection to {bind or 'the database'}, borrowed at first use.")
