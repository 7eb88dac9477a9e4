"""For pytest: a test that leaves a lease behind fails, and is told where it borrowed.

    pytest_plugins = ["pymysqlpool.pytest_plugin"]  # in the conftest.py at the root of your tests

Nothing is active unless you say so: the package declares no entry point, and only this module imports pytest.

What fixtures of a wider scope have borrowed before the test is theirs, and what the test's own fixtures have borrowed
must be back when they have been torn down. A test that keeps a lease on purpose has the marker `leaves_leases`.

Never: gives anything back itself, connects, looks at pools that are closed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .testing import assert_nothing_left_behind

_MARKER = "leaves_leases"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_MARKER}: the test may leave connections of a pymysqlpool borrowed")


@pytest.fixture(autouse=True)
def pymysqlpool_leases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test at its teardown if it has left leases behind."""
    if request.node.get_closest_marker(_MARKER) is not None:
        yield
        return
    with assert_nothing_left_behind():
        yield
