"""Arguments that `pymysql.connect()` would refuse, reported by name when a pool is made, without connecting.

Each check is PyMySQL's own rule (`pymysql.connections.Connection.__init__`, 1.1 to 1.2), or one that its first connect
would run into: a text without a name, a KeyError of a character set, the server's syntax error. For everything else one
connection of PyMySQL is constructed, with `defer_connect=True`.

Owns: these checks. Never: connects, corrects a value, prints a password.
"""

from __future__ import annotations

import codecs
import os
import re
import socket
import ssl
import warnings
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, NoReturn

from pymysql.charset import charset_by_name
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from ..errors import SettingsError
from ..secrets import Secret, reveal
from . import functions
from .late import pattern


def _parameters(function: Any) -> frozenset[str]:
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        return frozenset(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    import inspect  # here: only where a tool has wrapped PyMySQL's constructor, and it costs 4 ms

    return frozenset(inspect.signature(function).parameters) - {"self"}


NAMES = _parameters(Connection.__init__)

_NOT_SPOKEN = 1 << 5 | 1 << 24  # CLIENT_COMPRESS, CLIENT_DEPRECATE_EOF
_MAY_BE_CALLED = ("host", "port", "user", "password", "passwd")  # asked at every connect
_LONGEST_TIMEOUT = 31536000  # seconds: PyMySQL's bound
_LONGEST_SOCKET_PATH = 107  # bytes; unix(7), sun_path
_MAY_HAVE_NUL = ("unix_socket", "init_command", "sql_mode", "program_name")  # Linux's abstract sockets begin with one
_FILES = {"ca": os.path.isfile, "capath": os.path.isdir, "cert": os.path.isfile, "key": os.path.isfile}
_QUOTED = pattern(
    r"""
    '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*`  # strings and names
    | /\*.*?\*/ | \#[^\n]* | --\s[^\n]*              # comments
    """,
    re.S | re.X,
)


def check(given: Mapping[str, Any]) -> None:
    """Refuse what PyMySQL would.

    Args:
        given: arguments of `pymysql.connect()`, all of them in `NAMES`, passwords concealed.

    Raises:
        SettingsError: one cannot be used; the message names it.
    """
    for name, rule in _RULES.items():
        if name in given:
            rule(name, given[name], given)
            if name in _MAY_BE_CALLED and callable(given[name]):
                functions.check(name, given[name])
    for name, alias in (("database", "db"), ("password", "passwd")):
        if given.get(name) is not None and given.get(alias) is not None:
            raise SettingsError(f"{name} and {alias} are two names of one argument; give one of them")
    _dry_run(given)
    if not given.get("unix_socket"):
        # Each name of a host is encoded by it. Loaded at the first connect, a signal handler that connects at that
        # moment would get "LookupError: unknown encoding: idna".
        codecs.lookup("idna")


def _dry_run(given: Mapping[str, Any]) -> None:
    # Without TLS: to load the system's certificates takes 40 to 120 ms.
    asked_later = {name for name in _MAY_BE_CALLED if callable(given.get(name))}
    trial = {name: value for name, value in given.items() if name not in asked_later}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Connection(**reveal({**trial, "defer_connect": True, "ssl_disabled": True}))
    except Exception as error:
        names = ", ".join(sorted(given))
        raise SettingsError(f"pymysql.connect() refuses these arguments ({names}): {error!r}") from error


def _refuse(name: str, value: Any, must: str) -> NoReturn:
    raise SettingsError(f"{name}={value!r} {must}")


def _host(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, list | tuple | set | dict):
        _refuse(name, value, "must be text: a pool is for one server. Make a pool for each host")
    if isinstance(value, Secret):
        raise SettingsError(
            f"{name} is a URL or the like; write its parts as host, port, user, password and database (the value is "
            "not shown, since it may hold a password)"
        )
    _text(name, value, given)
    if not isinstance(value, str):
        return
    if value.startswith("["):
        host, _, port = value[1:].partition("]")
        _refuse(name, value, f"is written without brackets: host={host!r}, port={port.lstrip(':') or 3306}")
    if value.count(":") == 1:  # more of them: an IPv6 address
        host, _, port = value.partition(":")
        _refuse(name, value, f"has a port in it: write host={host!r}, port={port or 3306}")
    _resolvable(name, value)


def _resolvable(name: str, value: str) -> None:
    """Refuse what is no name, and what `socket.getaddrinfo` cannot even encode."""
    if any(map(str.isspace, value)):
        _refuse(name, value, "is no name of a host: it has a blank in it")
    try:
        value.encode("idna")
    except UnicodeError as error:
        _refuse(name, value, f"is no name of a host: {error}")


def _text(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, str):
        _sendable(name, value)
        return
    if value is None or (name in _MAY_BE_CALLED and callable(value)):
        return
    if callable(value):
        _refuse(name, value, "must be text; only host, port, user and password may be functions")
    if not (isinstance(value, bytes) and name in ("user", "database", "db", "unix_socket", "init_command")):
        _refuse(name, value, "must be text" + (" or a function that returns it" if name in _MAY_BE_CALLED else ""))


def _sendable(name: str, value: str) -> None:
    if "\0" in value and name not in _MAY_HAVE_NUL:
        _refuse(name, value, "has a NUL in it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        _refuse(name, value, f"has a character that cannot be sent, the one at {error.start}")


def _bind_address(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value:
        _resolvable(name, value)


def _collation(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value and not re.fullmatch(r"[A-Za-z]\w*", value, re.ASCII):
        _refuse(name, value, "is no name of a collation")  # it would be sent as a part of SET NAMES


def _client_flag(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _whole(name, value, given)
    if value >= 1 << 31:
        _refuse(name, value, "has more than the 31 bits that PyMySQL sends")
    if value & _NOT_SPOKEN:
        _refuse(name, value, "asks for compression, or for replies without EOF packets, which PyMySQL does not know")


def _unix_socket(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value and len(os.fsencode(value)) > _LONGEST_SOCKET_PATH:
        _refuse(name, value, f"is longer than the {_LONGEST_SOCKET_PATH} bytes that the system takes")
    if value and not hasattr(socket, "AF_UNIX"):
        _refuse(name, value, "cannot be used: Python has no unix sockets on this system; give host and port")


def _password(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(value, Secret):
        return  # None, or a function
    kind = type(value.reveal())
    if not issubclass(kind, str | bytes | bytearray):
        raise SettingsError(f"{name} must be text, bytes or a function that returns one, not {kind.__name__}")
    if issubclass(kind, str) and (at := _first_beyond_latin1(value)) is not None:
        raise SettingsError(
            f"{name} has a character that PyMySQL cannot encode (in latin1), the one at {at}: give it as "
            "bytes, as in password.encode('utf-8')"
        )


def _first_beyond_latin1(secret: Secret) -> int | None:
    return next((at for at, character in enumerate(secret.reveal()) if ord(character) > 255), None)


def _port(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not value or callable(value):
        return  # PyMySQL's default, or asked at every connect
    if isinstance(value, str) and value.isdecimal():
        if given.get("read_default_file") or given.get("read_default_group"):
            return  # PyMySQL makes a number of it then
        _refuse(name, value, f"is text; write {name}={int(value)}")
    if type(value) is not int or not 0 < value < 65536:
        _refuse(name, value, "must be a whole number from 1 to 65535")


def _timeout(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value is None and name != "connect_timeout":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_TIMEOUT:
        none = "" if name == "connect_timeout" else ", or None"
        _refuse(name, value, f"must be a number of seconds above 0 and at most {_LONGEST_TIMEOUT}{none}")


def _charset(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    try:
        charset = charset_by_name(value) if value else None
    except KeyError:
        charset = None
    if charset is not None:
        try:
            codecs.lookup(charset.encoding)
        except LookupError:
            _refuse(name, value, "is a character set that Python cannot encode")
    if value and charset is None:
        hint = "; MySQL's name is 'utf8mb4'" if value.lower().startswith(("utf-8", "utf_8")) else ""
        _refuse(name, value, f"is no character set that PyMySQL knows{hint}")


def _cursorclass(name: str, value: Any, given: Mapping[str, Any]) -> None:
    # A function that makes cursors is welcome, as in PyMySQL; a type or a built-in that makes something else is not.
    makes_others = not hasattr(value, "execute") if isinstance(value, type) else isinstance(value, BuiltinFunctionType)
    if not callable(value) or makes_others:
        _refuse(name, value, "must be a class of cursors, as pymysql.cursors.DictCursor")


def _init_command(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value is not None and not isinstance(value, str | bytes):
        _refuse(name, value, "must be one statement, as text; on_connect=... can run several")
    if isinstance(value, str):
        _sendable(name, value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
    if given.get("client_flag", 0) & CLIENT.MULTI_STATEMENTS or re.match(r"\s*(begin|create)\b", text, re.I):
        return
    _, _, more = _QUOTED.sub(" ", text).partition(";")
    if more.strip(" \t\r\n;"):
        raise SettingsError(
            f"{name} is more than one statement, which the server would refuse: one SET may set several variables, "
            "and on_connect=... can run several statements"
        )


def _ssl(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if given.get("ssl_disabled") or not value or isinstance(value, ssl.SSLContext):
        return
    if not isinstance(value, Mapping):
        _refuse(name, value, "must be a dict, as {'ca': '/path/to/ca.pem'}, or an ssl.SSLContext")
    for key, exists in _FILES.items():
        _file(f"ssl[{key!r}]", value.get(key), exists)


def _ssl_file(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not given.get("ssl_disabled"):
        _file(name, value, os.path.isfile)


def _file(name: str, path: Any, exists: Callable[[Any], bool]) -> None:
    if not path:
        return
    if not isinstance(path, str | bytes | os.PathLike):
        _refuse(name, path, "must be a path")
    if not exists(path):
        _refuse(name, path, "does not exist, or cannot be read")


def _whole(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(name, value, "must be a whole number")


def _mapping(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value is not None and not isinstance(value, Mapping):
        _refuse(name, value, "must be a dict")


def _truth(name: str, value: Any, given: Mapping[str, Any]) -> None:
    # PyMySQL takes any text for true: ssl_disabled="false" would switch TLS off. autocommit is not among these:
    # any truth value of it is what pymysql-pool 0.3.7 took.
    if value is not None and not (isinstance(value, int) and value in (0, 1)):
        _refuse(name, value, "must be True or False")


def _unsupported(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value:
        _refuse(name, value, "is not supported by PyMySQL")


def _defer_connect(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value:
        raise SettingsError("defer_connect=True contradicts a pool: it connects when a connection is borrowed")


_RULES: dict[str, Callable[[str, Any, Mapping[str, Any]], None]] = {
    "client_flag": _client_flag,
    "host": _host,
    "port": _port,
    "user": _text,
    "password": _password,
    "passwd": _password,
    "database": _text,
    "db": _text,
    "unix_socket": _unix_socket,
    "charset": _charset,
    "collation": _collation,
    "sql_mode": _text,
    "read_default_file": lambda name, value, given: _file(name, value, lambda path: True),
    "read_default_group": _text,
    "cursorclass": _cursorclass,
    "init_command": _init_command,
    "connect_timeout": _timeout,
    "read_timeout": _timeout,
    "write_timeout": _timeout,
    "max_allowed_packet": _whole,
    "bind_address": _bind_address,
    "program_name": _text,
    "conv": _mapping,
    "auth_plugin_map": _mapping,
    "ssl": _ssl,
    "ssl_ca": _ssl_file,
    "ssl_cert": _ssl_file,
    "ssl_key": _ssl_file,
    "ssl_disabled": _truth,
    "ssl_verify_identity": _truth,
    "local_infile": _truth,
    "use_unicode": _truth,
    "compress": _unsupported,
    "named_pipe": _unsupported,
    "defer_connect": _defer_connect,
}
