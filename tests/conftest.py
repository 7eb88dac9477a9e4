"""Fixtures for every suite: a private server, and the promise that no test leaves a lease or a thread behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer
from tests.proxy import Proxy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", default=os.environ.get("PYMYSQLPOOL_SERVER"), help="server binary to test against")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[DevServer]:
    """A server of our own, for the whole session."""
    with DevServer(binary=request.config.getoption("--server")) as server:
        yield server


@pytest.fixture
def connect_args(server: DevServer) -> dict[str, Any]:
    """Arguments for pymysql.connect() over TCP, without TLS unless a test asks for it."""
    return {**server.connect_args, "ssl_disabled": True}


@pytest.fixture
def admin(connect_args: dict[str, Any]) -> Iterator[pymysql.connections.Connection[Any]]:
    """A plain PyMySQL connection beside the pools, for looking at the server."""
    connection = pymysql.connect(**connect_args, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def proxy(server: DevServer) -> Iterator[Proxy]:
    """Between a pool that is told its port, and the server."""
    with Proxy((server.host, server.port)) as proxy:
        yield proxy


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


MakePool = Callable[..., ConnectionPool]


@pytest.fixture
def make_pool(connect_args: dict[str, Any]) -> Iterator[MakePool]:
    """Make pools that are closed at the end of the test."""
    pools: list[ConnectionPool] = []

    def make(**options: Any) -> ConnectionPool:
        pool = ConnectionPool(**{**connect_args, **options})
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(timeout=0)


@pytest.fixture(autouse=True)
def no_stray_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    stray = [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()]
    assert not stray, f"threads left behind: {stray}"
