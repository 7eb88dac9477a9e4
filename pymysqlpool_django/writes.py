"""The aliases that a unit of work has written to: it reads those from the primary, or from a replica with the commit.

A unit of work is a request: under WSGI from `request_started` to `request_finished`, under ASGI the context in which
Django runs the request's synchronous code, in whichever threads. Outside of requests it lasts until Django closes the
alias in the thread, as at the end of a Celery task.

Django goes through all receivers of a signal each time it sends it, so those of a request's begin and end here are the
only ones of this package; they tell `work` too.

Never: decides where a query goes; the router does, and the cluster.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync
from django.core.signals import request_finished, request_started
from django.db import connections

from pymysqlpool.cluster import Cluster

from . import work


class Unit:
    """One unit of work.

    Attributes:
        is_request: it ends with the request; else the notes of an alias end when Django closes the alias.
        aliases: those that were written to, or were asked for in order to write.
        commits: the position of the last commit in a cluster, for `get_connection(after=...)`.
        carried: the same, of an earlier request of the visitor.
    """

    __slots__ = ("aliases", "carried", "commits", "is_request")

    def __init__(self, *, is_request: bool) -> None:
        self.is_request: bool = is_request
        self.aliases: set[str] = set()
        self.commits: dict[str, tuple[Cluster, str]] = {}  # by alias
        self.carried: dict[Cluster, str] = {}


_units: WeakKeyDictionary[Any, Unit] = WeakKeyDictionary()  # of ASGI requests
_unit: ContextVar[Unit | None] = ContextVar("unit", default=None)  # of everything else


def current() -> Unit:
    """Return the unit of work that this code belongs to."""
    request = SyncToAsync.thread_sensitive_context.get(None)
    if request is not None:
        return _units.get(request) or _units.setdefault(request, Unit(is_request=True))
    unit = _unit.get()
    if unit is None:
        unit = Unit(is_request=False)
        _unit.set(unit)
    return unit


def note_write(alias: str) -> None:
    """Note that the unit of work is about to write to `alias`."""
    current().aliases.add(alias)


def note_commit(unit: Unit, alias: str, cluster: Cluster, token: str | None) -> None:
    """Note, at the return of a connection of `alias`, the `token` of its last commit; None if it had none.

    Args:
        unit: that for which it was borrowed. At the end of an executor's work item its context has been left.
    """
    if token is not None:
        unit.aliases.add(alias)
        unit.commits[alias] = (cluster, token)


def has_written(alias: str) -> bool:
    """Return whether the unit of work has written to `alias`, by the ORM or by a committed statement."""
    if alias in current().aliases:
        return True
    return getattr(connections[alias].connection, "commit_token", None) is not None


def carry(cluster: Cluster, token: str) -> None:
    """Begin after the commit at `token` of an earlier request: replicas are read from, once they have it."""
    current().carried[cluster] = token


def to_be_seen(cluster: Cluster) -> str | None:
    """Return the token of the commit that a replica of `cluster` must have; None if any may be read."""
    return last_commit(cluster) or current().carried.get(cluster)


def last_commit(cluster: Cluster) -> str | None:
    """Return the token of the unit's last commit in `cluster`; None if it had none."""
    for wrapper in connections.all(initialized_only=True):
        lease = getattr(wrapper, "_lease", None)
        if lease is not None and lease.database.cluster is cluster:
            token: str | None = getattr(wrapper.connection, "commit_token", None)
            if token is not None:
                return token
    return next((token for of, token in reversed(current().commits.values()) if of is cluster), None)


def forget(alias: str) -> None:
    """Called when Django has closed `alias`: outside of a request the notes of it end."""
    unit = _unit.get()
    if unit is not None and not unit.is_request and SyncToAsync.thread_sensitive_context.get(None) is None:
        unit.aliases.discard(alias)
        unit.commits.pop(alias, None)


def _started(sender: Any, **kwargs: Any) -> None:
    if "environ" in kwargs:
        work.here.request = work.Request.WSGI
        _unit.set(Unit(is_request=True))
    else:  # it has a separate context
        work.here.request = work.Request.ASGI


def _finished(sender: Any, **kwargs: Any) -> None:
    work.here.request = work.Request.NONE
    _unit.set(None)


request_started.connect(_started, weak=False, dispatch_uid="pymysqlpool_django.writes")
request_finished.connect(_finished, weak=False, dispatch_uid="pymysqlpool_django.writes")
