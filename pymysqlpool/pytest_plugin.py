"""For pytest: a test that leaves a lease behind fails, with the call site of the borrow.

    pytest_plugins = ["pymysqlpool.pytest_plugin"]  # in the conftest.py at the root of your tests

Nothing is active unless you say so: the package declares no entry point, and only this module imports pytest.

Connections that fixtures of a wider scope borrowed before the test do not count; those of the test's own fixtures must
be returned at the end of their teardown. A test that keeps a lease on purpose has the marker `leaves_leases`.

Owns: the fixture of each test. Never: returns a connection itself, connects, or checks closed pools.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .testing import assert_nothing_left_behind

_MARKER = "leaves_leases"


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest: registers the marker."""
    config.addinivalue_line("markers", f"{_MARKER}: the test may leave connections of a pymysqlpool borrowed")


@pytest.fixture(autouse=True)
def pymysqlpool_leases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test at its teardown if it has left leases behind."""
    if request.node.get_closest_marker(_MARKER) is not None:
        yield
        return
    with assert_nothing_left_behind():
        yield
