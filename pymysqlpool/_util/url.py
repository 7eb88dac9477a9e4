"""A database's address as one line: `mysql://user:password@host:3306/database?balance=order`.

Owns: the syntax of such URLs. Never: connects, or shows a password (`masked` is for messages).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

SCHEMES = ("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql")
_BLANK = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL.

    Attributes:
        hosts: host and port, the latter None where the URL has none; more than one for a cluster.
        arguments: for `pymysql.connect()`: user, password, database.
        options: the part behind the question mark, as text.
    """

    hosts: tuple[tuple[str, int | None], ...]
    arguments: dict[str, Any] = field(repr=False)
    options: dict[str, str]


def parse(url: str) -> Address:
    """Take a URL apart. Each part may be percent-encoded.

    Raises:
        ValueError: it is not a URL of MySQL or MariaDB; the message shows nothing of it, as any part may be a password
            that was not encoded.
    """
    if not isinstance(url, str):
        raise ValueError(f"a database URL is text, not {type(url).__name__}")
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES or not url.startswith("://", len(scheme)):
        begins = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(
            f"this is no database URL: it begins with none of {begins} (not shown, it may hold a password)"
        )
    place, _, query = rest.partition("?")
    netloc, _, path = place.partition("/")
    if "#" in rest or "@" in path or "@" in query or "/" in path or _BLANK.search(url):
        raise ValueError(
            "the database URL has a character where it cannot be; in the names of user and database, and in the "
            "password, write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40, a blank as %20"
        )
    credentials, _, places = netloc.rpartition("@")
    if "," in credentials.partition("@")[2]:  # a host behind the first "@", and credentials of another one behind it
        raise ValueError(
            "the database URL has more than one '@': user and password are written once, before all hosts; in a "
            "password, write '@' as %40"
        )
    user, has_password, password = credentials.partition(":")
    arguments: dict[str, Any] = {}
    if user:
        arguments["user"] = _decoded(user)
    if has_password:
        arguments["password"] = _decoded(password)
    if path:
        arguments["database"] = _decoded(path)
    hosts = tuple(_in_url(place) for place in places.split(",")) if places else (("localhost", None),)
    return Address(hosts, arguments, _options(query))


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        pass
    raise ValueError("the database URL has an escape, as %FF, that is not UTF-8")  # its own error shows the bytes


def _in_url(place: str) -> tuple[str, int | None]:
    if not place.startswith("[") and place.count(":") > 1:
        raise ValueError("the database URL has an IPv6 address without brackets, or a password without '@': [::1]:3306")
    host, port = host_and_port(place)
    if not host:
        raise ValueError("the database URL has a host without a name")
    return _decoded(host), port


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, has_value, value = (_decoded(text.replace("+", " ")) for text in part.partition("="))
        if not has_value or name in options:
            wrong = "has no value" if not has_value else "is there twice"
            raise ValueError(f"the option {name!r} of the database URL {wrong}")
        options[name] = value
    return options


def host_and_port(place: str) -> tuple[str, int | None]:
    """`db1`, `db1:3307`, `[::1]:3307`, `[::1]`.

    Raises:
        ValueError: the port is no number from 1 to 65535.
    """
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
        if not closed or (rest and port == rest):
            raise ValueError("an IPv6 address is written in brackets, with its port behind them: [::1]:3306")
    elif place.count(":") > 1:
        return place, None  # an IPv6 address without brackets
    else:
        host, _, port = place.partition(":")
    if not port:
        return host, None
    if not (port.isascii() and port.isdecimal() and len(port) <= 5) or not 0 < int(port) < 65536:
        raise ValueError(f"the port of {host!r} must be a number from 1 to 65535")  # not shown: it may be a password
    return host, int(port)


def joined(host: str, port: int | str) -> str:
    """Host and port as `host_and_port` takes them apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def masked(url: str) -> str:
    """A URL that `parse` has accepted, without its options, and with `***` for its password."""
    scheme, _, rest = url.partition("://")
    credentials, at, places = rest.partition("?")[0].rpartition("@")
    user, has_password, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if has_password else ''}{at}{places}"
