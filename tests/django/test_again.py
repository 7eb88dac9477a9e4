"""A connect that leads to what the last one led to takes one step, and nothing else shows it (must-handle 12)."""

from __future__ import annotations

import asyncio
import dis
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from django.core.signals import request_finished, request_started
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

import pymysqlpool_django
from pymysqlpool import PoolTimeout
from pymysqlpool.devserver import DevServer
from pymysqlpool_django import again
from pymysqlpool_django.base import DatabaseWrapper
from tests.core.test_interrupts import PACKAGE, strike
from tests.sweep import Sweep

from .conftest import Connect

OURS = (PACKAGE, str(Path(pymysqlpool_django.__file__).parent))


@pytest.fixture
def request_() -> Iterator[None]:
    """What Django does around a WSGI request."""
    request_started.send(None, environ={})
    yield
    request_finished.send(None)


def ask(wrapper: Any) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID(), @@autocommit, @@session.sql_auto_is_null")
        return cursor.fetchone()


@pytest.fixture
def wrapper(connect: Connect, request_: None) -> Any:
    """One that has connected before."""
    wrapper = connect({"size": 1, "maxsize": 1})
    ask(wrapper)
    wrapper.close()
    return wrapper


def code_of(function: Any) -> Any:
    return function.__wrapped__.__code__  # within Django's check for an event loop


def test_the_connect_of_the_installed_django_is_the_one_that_is_known() -> None:
    """If not, all connects are long, and right. Compare Django's with `again.connect`, then add its names there."""
    assert again.is_known(BaseDatabaseWrapper.connect), sorted(again.names(BaseDatabaseWrapper.connect) ^ again._KNOWN)


def test_the_short_connect_leaves_every_attribute_as_djangos_does(wrapper: Any) -> None:
    code = code_of(BaseDatabaseWrapper.connect)
    assigned = {one.argval for one in dis.get_instructions(code) if one.opname == "STORE_ATTR"}
    assigned |= {"autocommit", "isolation_level", "undone_by", "hold_count"}
    left = []
    for takes_short_way in (False, True):
        for name in assigned - {"connection", "hold_count"}:
            setattr(wrapper, name, "left by an earlier request")
        if not takes_short_way:
            wrapper._remembered.leads_to = None
        assert again.connect(wrapper) is takes_short_way
        if not takes_short_way:
            wrapper.connect()
        lease = wrapper._lease
        attributes = {name: getattr(wrapper, name) for name in assigned - {"connection", "close_at"}}
        of_lease = {name: getattr(lease, name) for name in type(lease).__slots__}
        left.append((attributes, of_lease, isinstance(wrapper.close_at, float), wrapper.connection.open))
        assert ask(wrapper)[1:] == (1, 0)
        wrapper.close()
    assert left[0] == left[1]


@contextmanager
def changed_settings(wrapper: Any) -> Iterator[None]:
    wrapper.settings_dict["OPTIONS"]["read_timeout"] = 7
    yield


@contextmanager
def removed_pool(wrapper: Any) -> Iterator[None]:
    wrapper.close_pool()
    yield


@contextmanager
def receiver(wrapper: Any) -> Iterator[None]:
    def receive(**_: Any) -> None:
        pass

    connection_created.connect(receive)
    yield
    connection_created.disconnect(receive)


@contextmanager
def no_request(wrapper: Any) -> Iterator[None]:
    request_finished.send(None)
    yield


@contextmanager
def loop(wrapper: Any) -> Iterator[None]:
    running = asyncio.new_event_loop()
    asyncio._set_running_loop(running)
    yield
    asyncio._set_running_loop(None)
    running.close()


@contextmanager
def other_class(wrapper: Any) -> Iterator[None]:
    class WithToken(DatabaseWrapper):
        def get_connection_params(self) -> dict[str, Any]:
            return super().get_connection_params()

    wrapper.__class__ = WithToken
    yield


def traced(wrapper: Any) -> AbstractContextManager[Any]:
    return mock.patch.object(BaseDatabaseWrapper, "connect")


def patched_class(wrapper: Any) -> AbstractContextManager[Any]:
    return mock.patch.object(DatabaseWrapper, "get_new_connection")


def patched(name: str) -> Callable[[Any], AbstractContextManager[Any]]:
    return lambda wrapper: cast(AbstractContextManager[Any], mock.patch.object(wrapper, name))


DIFFERENCES = {
    "settings": changed_settings,
    "pool": removed_pool,
    "receiver": receiver,
    "no request": no_request,
    "loop": loop,
    "other class": other_class,
    "traced": traced,
    "patched class": patched_class,
    **{
        f"patched {name}": patched(name)
        for name in ("get_connection_params", "get_new_connection", "init_connection_state", "set_autocommit")
    },
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_where_the_program_could_see_a_difference_django_connects(wrapper: Any, difference: str) -> None:
    with DIFFERENCES[difference](wrapper):
        before = dict(vars(wrapper))
        assert not again.connect(wrapper)
        assert vars(wrapper) == before
        assert wrapper.connection is None
    wrapper.__class__ = DatabaseWrapper


def test_what_ends_otherwise_is_connected_by_django(connect: Connect, server: DevServer, request_: None) -> None:
    of_a_cluster = connect({"hosts": [f"{server.host}:{server.port}"]}, HOST="", PORT="")
    for wrapper in (connect({"release": "transaction"}), of_a_cluster):
        ask(wrapper)
        wrapper.close()
        assert not again.connect(wrapper)


def test_a_refused_borrow_leaves_the_wrapper_without_a_connection(connect: Connect, request_: None) -> None:
    wrapper = connect({"size": 1, "maxsize": 1, "max_waiting": 0})
    ask(wrapper)
    wrapper.close()
    with wrapper.pool.get_connection(), pytest.raises(OperationalError):
        wrapper.ensure_connection()
    assert (wrapper.connection, wrapper._lease) == (None, None)
    assert ask(wrapper)[1:] == (1, 0)


def test_the_line_that_borrowed_is_the_users(wrapper: Any) -> None:
    ask(wrapper)
    with pytest.raises(PoolTimeout, match=r"test_again\.py:\d+ in ask"):
        wrapper.pool.get_connection(timeout=0.01)


def test_a_connection_survives_an_exception_at_any_point_of_a_request(wrapper: Any, sweep: Sweep) -> None:
    def story() -> None:
        request_started.send(None, environ={})
        ask(wrapper)
        wrapper.close_if_unusable_or_obsolete()

    point, step = sweep.every(7)
    while True:
        struck = strike(point, story, OURS)
        wrapper.close()
        gc.collect()
        assert ask(wrapper)[1:] == (1, 0), struck
        wrapper.close()
        stats = wrapper.pool.stats()
        assert (stats.in_use, stats.total) == (0, 1), struck
        if struck is None:
            break
        point += step
    assert point > (50 if sweep.everything else 0)
