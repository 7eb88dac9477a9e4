"""A server's limits, which the checks and `poolstatus` compare with the sizes of the pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections

from .base import DatabaseWrapper
from .options import PoolOptions, read, wanted

_QUESTION = """
    SELECT VERSION(), @@global.max_connections, @@global.wait_timeout,
           (SELECT COUNT(*) FROM information_schema.processlist), @@hostname, @@port
"""


@dataclass(frozen=True, slots=True)
class Server:
    version: str
    max_connections: int
    wait_timeout: int  # seconds
    connected: int  # sessions now, as far as this user may see them
    identity: tuple[str, int]  # two aliases with the same one share its limit


def ask(alias: str) -> Server:
    """Ask an alias's server, in one query.

    Raises:
        django.db.utils.OperationalError: it cannot be reached.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(_QUESTION)
        version, max_connections, wait_timeout, connected, host, port = cursor.fetchone()
    return Server(str(version), int(max_connections), int(wait_timeout), int(connected), (str(host), int(port)))


def pooled(aliases: list[str] | None = None) -> dict[str, PoolOptions]:
    """Return the aliases that have a pool (of all aliases by default), and its options.

    Raises:
        ImproperlyConfigured: an OPTIONS["pool"] has a wrong value.
    """
    found = {}
    for alias in connections if aliases is None else aliases:
        wrapper: Any = connections[alias]
        given = wanted(wrapper)
        if isinstance(wrapper, DatabaseWrapper) and given:
            found[alias] = read(alias, given, bool(wrapper.settings_dict["CONN_HEALTH_CHECKS"]))
    return found


def processes() -> int:
    """Return the number of processes that serve the site: the setting PYMYSQLPOOL_PROCESSES, 1 by default."""
    return int(getattr(settings, "PYMYSQLPOOL_PROCESSES", 1))
