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
import warnings
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType

from pymysql.charset import charset_by_name
from pymysql.connections import DEFAULT_CHARSET, Connection
from pymysql.cursors import Cursor

from ..errors import SettingsError
from ..secrets import Secret, reveal
from . import functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def _parameters(function: Any) -> frozenset[str]:
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        return frozenset(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    import inspect  # here: only where a tool has wrapped PyMySQL's constructor, and it costs 4 ms

    return frozenset(inspect.signature(function).parameters) - {"self"}


NAMES = _parameters(Connection.__init__)
RARE = frozenset(
    {
        "auth_plugin_map",
        "conv",
        "init_command",
        "read_default_file",
        "server_public_key",
        "ssl",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "ssl_verify_cert",
    }
)  # `rare_arguments` checks these

_NOT_SPOKEN = 1 << 5 | 1 << 24  # CLIENT_COMPRESS, CLIENT_DEPRECATE_EOF
_MAY_BE_CALLED = ("host", "port", "user", "password", "passwd")  # asked at every connect
_IN_NO_NAME = frozenset("/\\?#;,*&=!|^~`'\"()[]{}<>$")  # of a host; "%" is in an IPv6 address with its scope
_LONGEST_TIMEOUT = 31536000  # seconds: PyMySQL's bound
_LONGEST_SOCKET_PATH = 107  # bytes; unix(7), sun_path
_MAY_HAVE_NUL = ("unix_socket", "init_command", "sql_mode", "program_name")  # Linux's abstract sockets begin with one


def check(given: Mapping[str, Any]) -> None:
    """Refuse what PyMySQL would of those that are not in `RARE`.

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
    if not given.get("unix_socket"):
        # Each name of a host is encoded by it. Loaded at the first connect, a signal handler that connects at that
        # moment would get "LookupError: unknown encoding: idna".
        codecs.lookup("idna")


def check_answer(name: str, given: Mapping[str, Any]) -> None:
    """Refuse what the function for `name` has returned, as it would be refused if it had been given itself.

    Raises:
        SettingsError: it cannot be used.
    """
    try:
        if callable(given[name]) and not isinstance(given[name], Secret):
            refuse(name, given[name], "is a function again")
        _RULES[name](name, given[name], given)
    except SettingsError as error:
        raise SettingsError(f"the function for {name} returned what cannot be used: {error}") from None


def dry_run(given: Mapping[str, Any]) -> None:
    """Refuse what the checks of single arguments have let through and PyMySQL does not take.

    Raises:
        SettingsError: the message names all arguments, and PyMySQL's error.
    """
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


def refuse(name: str, value: Any, must: str) -> NoReturn:
    raise SettingsError(f"{name}={value!r} {must}")


def _host(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, list | tuple | set | dict):
        refuse(name, value, "must be text: a pool is for one server. Make a pool for each host")
    if isinstance(value, Secret):
        _refuse_url(name)
    _text(name, value, given)
    if not isinstance(value, str):
        return
    if value.startswith("/"):
        refuse(name, value, f"is a path: write unix_socket={value!r}")
    if "," in value:
        refuse(name, value, "must be one host: a pool is for one server. Make a pool for each host")
    if value.startswith("["):
        host, _, port = value[1:].partition("]")
        refuse(name, value, f"is written without brackets: host={host!r}, port={port.lstrip(':') or 3306}")
    if value.count(":") == 1:  # more of them: an IPv6 address
        host, _, port = value.partition(":")
        if port and not port.isdecimal():
            _refuse_url(name)  # user:password, perhaps
        refuse(name, value, f"has a port in it: write host={host!r}, port={port or 3306}")
    _resolvable(name, value)


def _refuse_url(name: str) -> NoReturn:
    raise SettingsError(
        f"{name} is a URL or the like; write its parts as host, port, user, password and database (the value is "
        "not shown, since it may hold a password)"
    )


def _resolvable(name: str, value: str) -> None:
    """Refuse what is no name, and what `socket.getaddrinfo` cannot even encode."""
    if any(map(str.isspace, value)):
        refuse(name, value, "is no name of a host: it has a blank in it")
    if wrong := _IN_NO_NAME.intersection(value):
        refuse(name, value, f"is no name of a host: it has {min(wrong)} in it")
    try:
        value.encode("idna")
    except UnicodeError as error:
        refuse(name, value, f"is no name of a host: {error}")


def _text(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, str):
        sendable(name, value)
        return
    if value is None or (name in _MAY_BE_CALLED and callable(value)):
        return
    if callable(value):
        refuse(name, value, "must be text; only host, port, user and password may be functions")
    if not (isinstance(value, bytes) and name in ("user", "database", "db", "unix_socket", "init_command")):
        refuse(name, value, "must be text" + (" or a function that returns it" if name in _MAY_BE_CALLED else ""))


def sendable(name: str, value: str) -> None:
    if "\0" in value and name not in _MAY_HAVE_NUL:
        refuse(name, value, "has a NUL in it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        refuse(name, value, f"has a character that cannot be sent, the one at {error.start}")


def _bind_address(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value:
        _resolvable(name, value)


def _collation(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value and not re.fullmatch(r"[A-Za-z]\w*", value, re.ASCII):
        refuse(name, value, "is no name of a collation")  # it would be sent as a part of SET NAMES
    from_file = given.get("read_default_file") or given.get("read_default_group")
    charset = given.get("charset") or (None if from_file else DEFAULT_CHARSET)
    if not value or not isinstance(charset, str):
        return
    family, charset = value.lower().partition("_")[0], charset.lower()
    if family != charset and not (family.startswith("utf8") and charset.startswith("utf8")) and _charset_named(family):
        # utf8 is utf8mb3, or in MariaDB utf8mb4. One that PyMySQL does not know, as uca1400, fits several.
        refuse(name, value, f"is not a collation of charset={charset!r}")


def _client_flag(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _whole(name, value, given)
    if value >= 1 << 31:
        refuse(name, value, "has more than the 31 bits that PyMySQL sends")
    if value & _NOT_SPOKEN:
        refuse(name, value, "asks for compression, or for replies without EOF packets, which PyMySQL does not know")


def _unix_socket(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    if value and len(os.fsencode(value)) > _LONGEST_SOCKET_PATH:
        refuse(name, value, f"is longer than the {_LONGEST_SOCKET_PATH} bytes that the system takes")
    if value and not hasattr(socket, "AF_UNIX"):
        refuse(name, value, "cannot be used: Python has no unix sockets on this system; give host and port")


def _password(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value is None or (callable(value) and not isinstance(value, Secret)):
        return
    kind = type(value.reveal() if isinstance(value, Secret) else value)
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
        refuse(name, value, f"is text; write {name}={int(value)}")
    if type(value) is not int or not 0 < value < 65536:
        refuse(name, value, "must be a whole number from 1 to 65535")


def _timeout(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value is None and name != "connect_timeout":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_TIMEOUT:
        none = "" if name == "connect_timeout" else ", or None"
        refuse(name, value, f"must be a number of seconds above 0 and at most {_LONGEST_TIMEOUT}{none}")


def _charset(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _text(name, value, given)
    charset = _charset_named(value) if value else None
    if charset is not None:
        try:
            codecs.lookup(charset.encoding)
        except LookupError:
            refuse(name, value, "is a character set that Python cannot encode")
    if value and charset is None:
        hint = "; MySQL's name is 'utf8mb4'" if value.lower().startswith(("utf-8", "utf_8")) else ""
        refuse(name, value, f"is no character set that PyMySQL knows{hint}")


def _charset_named(name: str) -> Any:
    try:
        return charset_by_name(name)
    except KeyError:
        return None


def _cursorclass(name: str, value: Any, given: Mapping[str, Any]) -> None:
    # A function that makes cursors is welcome, as in PyMySQL; a type or a built-in that makes something else is not.
    if isinstance(value, type) and issubclass(value, Cursor):
        return
    makes_others = not hasattr(value, "execute") if isinstance(value, type) else isinstance(value, BuiltinFunctionType)
    if not callable(value) or makes_others:
        refuse(name, value, "must be a class of cursors, as pymysql.cursors.DictCursor")
    functions.check(name, value, "connection")


def _whole(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        refuse(name, value, "must be a whole number")


def _truth(name: str, value: Any, given: Mapping[str, Any]) -> None:
    # PyMySQL takes any text for true: ssl_disabled="false" would switch TLS off. autocommit is not among these:
    # any truth value of it is what pymysql-pool 0.3.7 took.
    if value is not None and not (isinstance(value, int) and value in (0, 1)):
        refuse(name, value, "must be True or False")


def _unsupported(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if value:
        refuse(name, value, "is not supported by PyMySQL")


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
    "read_default_group": _text,
    "cursorclass": _cursorclass,
    "connect_timeout": _timeout,
    "read_timeout": _timeout,
    "write_timeout": _timeout,
    "max_allowed_packet": _whole,
    "bind_address": _bind_address,
    "program_name": _text,
    "ssl_disabled": _truth,
    "ssl_verify_identity": _truth,
    "local_infile": _truth,
    "use_unicode": _truth,
    "compress": _unsupported,
    "named_pipe": _unsupported,
    "defer_connect": _defer_connect,
}
