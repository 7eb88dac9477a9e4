"""System checks: `manage.py check` reports configurations that would fail at a request.

`check_options` looks at the settings alone. `check_server` asks the servers, so it runs only where Django's own
database checks do: `check --database default`, `migrate`.

    pymysqlpool.E001  OPTIONS["pool"], or what stands beside it, cannot be used
    pymysqlpool.E002  CONN_MAX_AGE together with a pool
    pymysqlpool.W001  OPTIONS["pool"] is an empty dict, which means no pool
    pymysqlpool.W002  max_waiting=0
    pymysqlpool.W003  all processes' pools together may want more connections than the server has
    pymysqlpool.W004  connections live longer in the pool than the server keeps them
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import options, server
from .base import DatabaseWrapper
from .validation import pool_errors


def check_options(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that a pool can be made of every OPTIONS["pool"]."""
    found: list[CheckMessage] = []
    for alias in connections:
        wrapper = connections[alias]
        if isinstance(wrapper, DatabaseWrapper):
            found += _of_alias(alias, wrapper)
    return found


def _of_alias(alias: str, wrapper: DatabaseWrapper) -> list[CheckMessage]:
    wanted = options.wanted(wrapper)
    if wanted == {}:
        return [
            Warning(
                f"DATABASES[{alias!r}]['OPTIONS']['pool'] is an empty dict, which means no pool.",
                hint="Write True for a pool with the default options.",
                id="pymysqlpool.W001",
            ),
            *pool_errors(wrapper),
        ]
    found = pool_errors(wrapper)
    if found or not wanted:
        return found
    understood = options.read(alias, wanted, bool(wrapper.settings_dict["CONN_HEALTH_CHECKS"]))
    if understood.core.get("max_waiting") == 0:
        found.append(
            Warning(
                f"DATABASES[{alias!r}]: with max_waiting=0 no request ever waits for a connection.",
                hint="In psycopg's pool 0 means no limit; here that is None, the default.",
                id="pymysqlpool.W002",
            )
        )
    return found


def check_server(app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the pools of all processes fit into the servers' limits."""
    found: list[CheckMessage] = []
    wanted: dict[tuple[str, int], int] = {}
    limits: dict[tuple[str, int], int] = {}
    try:
        pooled = server.pooled(list(databases or ()))
    except ImproperlyConfigured:
        return []  # reported as E001
    for alias, understood in pooled.items():
        if pool_errors(connections[alias]):
            continue  # E001 and E002 are reported, and no connection can be had
        it = server.ask(alias)
        limits[it.identity] = it.max_connections
        wanted[it.identity] = wanted.get(it.identity, 0) + understood.core["maxsize"] * server.processes()
        lifetime = understood.core.get("con_lifetime", options.LIFETIME)
        if not lifetime or lifetime < 0 or lifetime > it.wait_timeout:
            found.append(
                Warning(
                    f"DATABASES[{alias!r}]: the server closes a connection that was idle for {it.wait_timeout} s "
                    f"(wait_timeout), the pool keeps it for {lifetime or 'ever'} s.",
                    hint="Set max_lifetime below wait_timeout; else each such connection is made anew when needed.",
                    id="pymysqlpool.W004",
                )
            )
    for identity, number in wanted.items():
        if number > limits[identity]:
            found.append(
                Warning(
                    f"The pools may want {number} connections of {identity[0]}:{identity[1]}, "
                    f"whose max_connections is {limits[identity]}.",
                    hint="max_size times PYMYSQLPOOL_PROCESSES, of all aliases there. Lower one, or raise the other.",
                    id="pymysqlpool.W003",
                )
            )
    return found
