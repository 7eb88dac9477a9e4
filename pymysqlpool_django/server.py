"""A server's limits, to compare with what the pools may ask of it; for the checks and `poolstatus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections

from .base import DatabaseWrapper
from .options import PoolOptions, read

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
    """Ask the server behind an alias. One query.

    Raises:
        django.db.utils.OperationalError: it cannot be reached.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(_QUESTION)
        version, max_connections, wait_timeout, connected, host, port = cursor.fetchone()
    return Server(str(version), int(max_connections), int(wait_timeout), int(connected), (str(host), int(port)))


def pooled(aliases: list[str] | None = None) -> dict[str, PoolOptions]:
    """The aliases that have a pool, and its options. Of all aliases by default.

    Raises:
        ImproperlyConfigured: an OPTIONS["pool"] is no good.
    """
    found = {}
    for alias in connections if aliases is None else aliases:
        wrapper: Any = connections[alias]
        wanted = wrapper.settings_dict["OPTIONS"].get("pool")
        if isinstance(wrapper, DatabaseWrapper) and wanted:
            found[alias] = read(alias, wanted, bool(wrapper.settings_dict["CONN_HEALTH_CHECKS"]))
    return found


def processes() -> int:
    """How many processes serve the site: the setting PYMYSQLPOOL_PROCESSES, 1 by default."""
    return int(getattr(settings, "PYMYSQLPOOL_PROCESSES", 1))
