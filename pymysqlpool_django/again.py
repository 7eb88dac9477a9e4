"""A connect that leads to what the last one led to: most requests.

Django's `connect()` reads the settings, makes arguments of them, connects, sets the session up, and resets a dozen
attributes. A pooled alias connects at each request, and as long as nothing has changed, only the lease is new.
Then this takes one step in place of eleven methods.

Owns: the conditions for that step, and the attributes that Django's `connect()` resets. Never: takes it where the
program could see a difference. Django's own `connect()` runs where it is not the one that is known here, or is wrapped
by a tracing library; where a method that it calls is overridden or replaced by a mock; where `connection_created` has a
receiver; outside of WSGI requests, in clusters, and with `"release": "transaction"`.
"""

from __future__ import annotations

from asyncio import _get_running_loop  # without the exception of the public one
from operator import attrgetter
from os import getpid
from time import monotonic
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from . import work
from .frames import frame_of_cursor
from .holds import Ends, Lease
from .pools import PooledDatabase

# What Django's `connect()` refers to, in all versions so far.
# fmt: off
_KNOWN = frozenset({
    "__class__", "atomic_blocks", "check_settings", "close_at", "closed_in_transaction", "connection",
    "connection_created", "errors_occurred", "get_connection_params", "get_new_connection", "health_check_done",
    "health_check_enabled", "in_atomic_block", "init_connection_state", "monotonic", "needs_rollback", "run_on_commit",
    "savepoint_ids", "send", "set_autocommit", "settings_dict", "time",
})
# fmt: on
_CONNECT = BaseDatabaseWrapper.connect
_methods = attrgetter(
    "check_settings", "get_connection_params", "get_new_connection", "init_connection_state", "set_autocommit"
)
_FRAMES = 4  # between `cursor()` and `connect`


def names(connect: Any) -> frozenset[str]:
    """Return what the function in Django's check for an event loop refers to."""
    code = getattr(getattr(connect, "__wrapped__", None), "__code__", None)
    return frozenset(code.co_names) if code is not None else frozenset()


def is_known(connect: Any) -> bool:
    return names(connect) == _KNOWN


_ours: Any = None


def know(kind: type) -> None:
    """Take the methods of the class `kind` for those that need not be called."""
    global _ours
    _ours = _methods(kind) if is_known(_CONNECT) else None


def remember(wrapper: Any, database: PooledDatabase) -> None:
    """Called when Django's `connect()` has borrowed from `database`: note whether the next one may be short."""
    repeats = database.sets_up and database.cluster is None and not database.release_after_transaction
    if wrapper._remembered is not None:
        wrapper._remembered.leads_to = database if repeats else None


def connect(wrapper: Any) -> bool:
    """Do what Django's `connect()` does, if the last one has done the same.

    Returns:
        Whether it was done; if not, nothing was.
    """
    remembered = wrapper._remembered
    if remembered is None:
        return False
    database = remembered.leads_to
    settings = wrapper.settings_dict
    own = wrapper.__dict__
    if (
        database is None
        or not remembered.is_of(settings)
        or not database.is_current
        or database.process != getpid()
        or work.here.request is not work.Request.WSGI
        or connection_created.receivers
        or wrapper.connection is not None
        or BaseDatabaseWrapper.connect is not _CONNECT
        or _methods(type(wrapper)) != _ours
        or "get_connection_params" in own
        or "get_new_connection" in own
        or "init_connection_state" in own
        or "set_autocommit" in own
        or _get_running_loop() is not None
    ):
        return False
    wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = wrapper.errors_occurred = False
    wrapper.savepoint_ids = []
    wrapper.atomic_blocks = []
    wrapper.health_check_enabled = settings["CONN_HEALTH_CHECKS"]
    age = settings["CONN_MAX_AGE"]
    wrapper.close_at = None if age is None else monotonic() + age
    wrapper.health_check_done = True
    wrapper.isolation_level = remembered.isolation_level
    wrapper.undone_by = None
    connection = database.pool.get_connection(retry_num=0)
    connection.note_place(within=frame_of_cursor(_FRAMES))
    lease = Lease(database, Ends.CLOSE, None)
    lease.autocommit_is_set = lease.is_set_up = False
    wrapper._lease = lease
    wrapper.connection = connection
    wrapper.autocommit = settings["AUTOCOMMIT"]
    wrapper.run_on_commit = []
    return True
