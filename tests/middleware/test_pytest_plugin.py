"""The pytest plugin, in a pytest of its own on the tests' server (behaviour 54)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ROOT

CONFTEST = """
import pytest
from pymysqlpool import ConnectionPool

{plugins}

@pytest.fixture(scope="session")
def pool():
    pool = ConnectionPool(**{arguments!r}, size=1, maxsize=9, timeout=5)
    yield pool
    pool.close(timeout=0)
"""


def run(folder: Path, connect_args: dict[str, Any], tests: str, enabled: bool = True) -> tuple[dict[str, int], str]:
    """How many tests passed, failed and so on, and all that pytest has said."""
    plugins = 'pytest_plugins = ["pymysqlpool.pytest_plugin"]' if enabled else ""
    (folder / "conftest.py").write_text(CONFTEST.format(plugins=plugins, arguments=connect_args))
    (folder / "test_it.py").write_text(
        f"import threading\nimport pytest\nfrom pymysqlpool import ConnectionPool\n{tests}"
    )
    # Without the plugins of the other packages here, whose import takes ten times as long as all the rest.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if enabled else {}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:ddtrace"),
            *("--strict-markers", "--color=no", str(folder)),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **alone},
        capture_output=True,
        text=True,
        timeout=50,
    )
    words = done.stdout.splitlines()[-1].strip("= ").partition(" in ")[0].replace(",", "").split()
    return {kind.rstrip("s"): int(number) for number, kind in zip(words[::2], words[1::2], strict=True)}, done.stdout


def line_of(folder: Path, text: str) -> str:
    lines = (folder / "test_it.py").read_text().splitlines()
    return f"test_it.py:{next(number for number, line in enumerate(lines, 1) if text in line)} in "


LEAVES = {
    "kept": """
kept = []
def test_it(pool):
    kept.append(pool.get_connection())  # here
""",
    "dropped": """
def test_it(pool):
    pool.get_connection()  # here
""",
    "by a fixture": """
@pytest.fixture
def connection(pool):
    return pool.get_connection()  # here
kept = []
def test_it(connection):
    kept.append(connection)
""",
    "in a thread": """
kept = []
def test_it(pool):
    def work():
        kept.append(pool.get_connection())  # here
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
""",
    "pool closed": """
kept = []
@pytest.fixture
def own(pool):
    own = ConnectionPool(**pool._connect_args, size=1)
    yield own
    own.close(timeout=0)
def test_it(own):
    kept.append(own.get_connection())  # here
""",
}


@pytest.mark.parametrize("tests", LEAVES.values(), ids=LEAVES)
def test_a_test_that_leaves_a_lease_behind_is_an_error_that_names_the_place(
    tmp_path: Path, connect_args: dict[str, Any], tests: str
) -> None:
    outcome, said = run(tmp_path, connect_args, tests + "\ndef test_the_next_one_is_not_blamed(pool): pass\n")
    assert outcome == {"passed": 2, "error": 1}, said
    assert "1 connections of pool(" in said
    assert line_of(tmp_path, "# here") in said


def test_what_is_given_back_or_belongs_to_a_wider_fixture_or_is_marked_is_no_error(
    tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    tests = """
kept = []
@pytest.fixture(scope="module")
def wide(pool):
    with pool.get_connection() as connection:
        yield connection
@pytest.fixture
def narrow(pool):
    with pool.get_connection() as connection:
        yield connection
def test_wide(wide, pool):
    assert pool.stats().in_use == 1
def test_narrow(narrow, wide):
    narrow.ping()
def test_given_back(pool):
    pool.get_connection().close()
    with ConnectionPool(**pool._connect_args) as own, own.get_connection():
        pass
@pytest.mark.leaves_leases
def test_marked(pool):
    kept.append(pool.get_connection())
def test_after_it(pool):
    kept.pop().close()
"""
    outcome, said = run(tmp_path, connect_args, tests)
    assert outcome == {"passed": 5}, said


def test_a_thread_that_is_about_to_give_back_has_a_moment(tmp_path: Path, connect_args: dict[str, Any]) -> None:
    tests = """
def test_it(pool):
    borrowed = threading.Event()
    from pymysqlpool import testing
    looked, look = threading.Event(), testing._not_given_back
    def not_given_back(pool):
        looked.set()
        return look(pool)
    testing._not_given_back = not_given_back
    def work():
        with pool.get_connection():
            borrowed.set()
            looked.wait(10)
    threading.Thread(target=work).start()
    borrowed.wait(10)
"""
    outcome, said = run(tmp_path, connect_args, tests)
    assert outcome == {"passed": 1}, said


def test_nothing_is_active_unasked(tmp_path: Path, connect_args: dict[str, Any]) -> None:
    outcome, said = run(tmp_path, connect_args, LEAVES["kept"], enabled=False)
    assert outcome == {"passed": 1}, said


def test_the_package_never_imports_pytest_by_itself() -> None:
    names = "pymysqlpool, pymysqlpool.testing, pymysqlpool.wsgi, pymysqlpool_flask"
    subprocess.run(
        [sys.executable, "-c", f"import sys, {names}; assert 'pytest' not in sys.modules"], check=True, cwd=ROOT
    )
