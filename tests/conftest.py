"""Fixtures for every suite: a private server, and the promise that no test leaves a lease or a thread behind.

A plain run is the quick one: every claim once, long sweeps by a sample. `--all` runs the tests marked `slow` as well,
and every sweep as a whole.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import hypothesis
import pymysql
import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer
from tests.proxy import Proxy
from tests.sweep import Sweep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", default=os.environ.get("PYMYSQLPOOL_SERVER"), help="server binary to test against")
    parser.addoption("--all", action="store_true", help="the tests marked `slow` too, and every sweep as a whole")
    parser.addoption("--sweep-seed", metavar="N", help="repeat the samples of the run that named this seed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long for what it adds; runs with --all only")
    if config.getoption("--sweep-seed") is None:
        config.option.sweep_seed = str(random.randrange(1_000_000))
    # A test's own settings are made when it is imported, so the profile must be there before.
    # The same examples for the same tests, so that a red run speaks of the change; --hypothesis-seed=N draws others.
    fixed = config.getoption("--hypothesis-seed") is None
    hypothesis.settings.register_profile("quick", max_examples=60, deadline=None, derandomize=fixed)
    hypothesis.settings.register_profile("all", max_examples=300, deadline=None, derandomize=fixed)
    hypothesis.settings.load_profile("all" if config.getoption("--all") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()  # it would look at the imported modules over and over, a third of the time of the imports
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_report_header(config: pytest.Config) -> str:
    return "sweeps: all" if config.getoption("--all") else f"sweeps: sampled, --sweep-seed {config.option.sweep_seed}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "sweep" in getattr(item, "fixturenames", ()) and not item.config.getoption("--all"):
        report.sections.append(("sweep", f"to repeat this sample: --sweep-seed {item.config.option.sweep_seed}"))
    return report


@pytest.fixture
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """What this test goes through of a long sweep; its own sample for each test, the same again for the same seed."""
    config = request.config
    return Sweep(config.getoption("--all"), f"{config.option.sweep_seed} {request.node.nodeid}")


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
    # Pools that the test before has left: pytest refers to them until it has ended, and a finalizer leaves more to
    # collect. What remains, as the reports, is left out from now on: else every collection takes longer than the last.
    for _ in range(3):
        gc.collect()
    gc.freeze()
    before = set(threading.enumerate())
    yield
    gc.collect()
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(1)  # an executor that was collected has told its threads to end, and waits for none
    stray = [thread for thread in new if thread.is_alive()]
    assert not stray, f"threads left behind: {stray}"
