"""A database's address as one line: `mysql://user:password@host:3306/database?connect_timeout=3`.

Owns: the syntax of such URLs. Never: connects, or shows a password (`masked` is for messages).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql")
_SECRET = re.compile(r"(?<=:)(/*[^/@:]*):.*@", re.S)  # to the last @: a password that was not quoted may have any


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
    """Take a URL apart.

    Raises:
        ValueError: it is not a URL of MySQL or MariaDB; the message shows it without its password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote the password
        parts = urlsplit("")
    if parts.scheme not in SCHEMES or not url.startswith("://", len(parts.scheme)):
        begins = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"{masked(url)!r} is no database URL: it begins with none of {begins}")
    credentials, _, places = parts.netloc.rpartition("@")
    user, has_password, password = credentials.partition(":")
    arguments: dict[str, Any] = {}
    if user:
        arguments["user"] = unquote(user)
    if has_password:
        arguments["password"] = unquote(password)
    if database := unquote(parts.path.lstrip("/")):
        arguments["database"] = database
    hosts = tuple(host_and_port(place) for place in places.split(",") if place)
    return Address(hosts or (("localhost", None),), arguments, dict(parse_qsl(parts.query, keep_blank_values=True)))


def host_and_port(place: str) -> tuple[str, int | None]:
    """`db1`, `db1:3307`, `[::1]:3307`, `[::1]`.

    Raises:
        ValueError: the port is no number from 1 to 65535.
    """
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    elif place.count(":") > 1:
        return place, None  # an IPv6 address without brackets
    else:
        host, _, port = place.partition(":")
    if not port:
        return host, None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"the port of {host!r} must be a number from 1 to 65535")  # not shown: it may be a password
    return host, int(port)


def masked(url: str) -> str:
    """The URL with `***` for its password."""
    return _SECRET.sub(r"\1:***@", url)
