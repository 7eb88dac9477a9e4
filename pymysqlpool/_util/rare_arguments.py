"""Checks of arguments that few pools are given: TLS, files, `conv`, `init_command`. Loaded if one is given.

Owns: the checks of `arguments.RARE`. Never: connects, corrects a value, prints a password.
"""

from __future__ import annotations

import os
import re
import ssl
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pymysql.connections import Connection
from pymysql.constants import CLIENT

from ..errors import SettingsError
from ..secrets import reveal
from .arguments import refuse, sendable

_FILES = {"ca": os.path.isfile, "capath": os.path.isdir, "cert": os.path.isfile, "key": os.path.isfile}
_VERIFY_MODES = ("none", "0", "false", "no", "optional", "required", "1", "true", "yes")
_QUOTED = re.compile(
    r"""
    '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*`  # strings and names
    | /\*.*?\*/ | \#[^\n]* | --\s[^\n]*              # comments
    """,
    re.S | re.X,
)


def check(given: Mapping[str, Any]) -> None:
    """Refuse what PyMySQL, or its first connect, would.

    Args:
        given: arguments that `arguments.check` has let through.

    Raises:
        SettingsError: one cannot be used; the message names it.
    """
    for name, rule in _RULES.items():
        if given.get(name) is not None:
            rule(name, given[name], given)


def _init_command(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(value, str | bytes):
        refuse(name, value, "must be one statement, as text; on_connect=... can run several")
    if isinstance(value, str):
        sendable(name, value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not text.strip(" \t\r\n;\0"):
        refuse(name, value, "is no statement; leave it out, or give None")
    if given.get("client_flag", 0) & CLIENT.MULTI_STATEMENTS or re.match(r"\s*(begin|create)\b", text, re.I):
        return
    _, _, more = _QUOTED.sub(" ", text).partition(";")
    if more.strip(" \t\r\n;"):
        raise SettingsError(
            f"{name} is more than one statement, which the server would refuse: one SET may set several variables, "
            "and on_connect=... can run several statements"
        )


def _conv(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _mapping(name, value, given)
    for kind, converter in value.items():
        if converter is not None and not callable(converter):
            raise SettingsError(f"{name}[{kind!r}]={converter!r} must be a function, or None")
    if given.get("autocommit", False) is None:
        return
    try:
        Connection(conv=value, defer_connect=True, ssl_disabled=True).escape(False)  # newer versions use `conv` there
    except Exception as error:
        raise SettingsError(
            f"{name} cannot convert False, which pymysql.connect() needs for autocommit: {error!r}; begin with a copy "
            "of pymysql.converters.conversions"
        ) from error


def _ssl(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if given.get("ssl_disabled") or not value or isinstance(value, ssl.SSLContext):
        return
    if not isinstance(value, Mapping):
        refuse(name, value, "must be a dict, as {'ca': '/path/to/ca.pem'}, or an ssl.SSLContext")
    for key, exists in _FILES.items():
        _file(f"ssl[{key!r}]", value.get(key), exists)
    _verify_mode("ssl['verify_mode']", value.get("verify_mode"), given)
    if any(value.get(key) is not None for key in ("ca", "capath", "cert", "cipher")):
        _dry_run(name, {name: value})


def _ssl_file(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if given.get("ssl_disabled"):
        return
    _file(name, value, os.path.isfile)
    if value and name != "ssl_key":  # which is looked at together with `ssl_cert`
        beside = ("ssl_key", "ssl_key_password") if name == "ssl_cert" else ()
        _dry_run(name, {key: given[key] for key in (name, *beside) if key in given})


def _dry_run(name: str, given: Mapping[str, Any]) -> None:
    """Refuse what Python's `ssl` refuses: a file that holds no certificate, a cipher that it does not know."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Connection(**reveal({**given, "defer_connect": True}))
    except (OSError, ValueError, TypeError) as error:  # an SSLError is an OSError
        raise SettingsError(f"{name}={given[name]!r} cannot be used for TLS: {error!r}") from error


def _verify_mode(name: str, value: Any, given: Mapping[str, Any]) -> None:
    # PyMySQL takes what it does not know, such as 1, for "as if it were not given": no certificate is verified.
    known = isinstance(value, str) and value.lower() in _VERIFY_MODES
    if value is not None and not isinstance(value, bool) and not known:
        refuse(name, value, f"must be True, False or one of {', '.join(map(repr, _VERIFY_MODES))}")


def _file(name: str, path: Any, exists: Callable[[Any], bool]) -> None:
    if not path:
        return
    if not isinstance(path, str | bytes | os.PathLike):
        refuse(name, path, "must be a path")
    if not exists(path):
        refuse(name, path, "does not exist, or cannot be read")


def _mapping(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        refuse(name, value, "must be a dict")


def _plugins(name: str, value: Any, given: Mapping[str, Any]) -> None:
    _mapping(name, value, given)
    for plugin, handler in value.items():
        if handler is not None and not callable(handler):
            raise SettingsError(f"{name}[{plugin!r}]={handler!r} must be a class, or None")


def _public_key(name: str, value: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(value, bytes | bytearray):
        refuse(name, value, "must be bytes, the text of a PEM file")


_RULES: dict[str, Callable[[str, Any, Mapping[str, Any]], None]] = {
    "init_command": _init_command,
    "conv": _conv,
    "auth_plugin_map": _plugins,
    "read_default_file": lambda name, value, given: _file(name, value, lambda path: True),
    "server_public_key": _public_key,
    "ssl": _ssl,
    "ssl_ca": _ssl_file,
    "ssl_cert": _ssl_file,
    "ssl_key": _ssl_file,
    "ssl_verify_cert": _verify_mode,
}
