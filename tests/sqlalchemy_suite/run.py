"""Runs SQLAlchemy's own tests with its pool and with ours; `scripts/sqlalchemy-suite` calls it.

The tests come from the source distribution of the SQLAlchemy that is installed. Exits 0 when every test that passes
with QueuePool passes with ours, but for those of `ON_PURPOSE`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy

from pymysqlpool.devserver import DevServer

from ..suites_of_others import Results, describe, execute, lost, report, run_pytest, unpack

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SUITES = (
    "test/dialect/mysql",
    "test/dialect/test_suite.py",
    "test/engine/test_pool.py",
    "test/engine/test_transaction.py",
    "test/engine/test_execute.py",
    "test/engine/test_reconnect.py",
)
# By class and name; why each differs. The tutorial says it to users.
ON_PURPOSE = {
    "DialectEventTest.test_connect_do_connect": "a do_connect event that returns a connection is refused",
    "DialectEventTest.test_connect_replace_params": "passes arguments that PyMySQL does not know, to a fake",
    "HandleErrorTest.test_alter_invalidate_pool_stays_true": "one lost connection does not invalidate the others",
    **{
        f"RealPrePingEventHandlerTest.{test}": "a fake makes its connections; the pool connects with PyMySQL itself"
        for test in (
            "test_control",
            "test_event_handler_can_downgrade_disconnect",
            "test_event_handler_didnt_upgrade_disconnect",
        )
    },
}
SET_UP = (
    "CREATE DATABASE test",
    "CREATE DATABASE test_schema",
    "CREATE USER scott@'%' IDENTIFIED BY 'tiger'",
    "GRANT ALL ON *.* TO scott@'%'",
    "CREATE USER scott@localhost IDENTIFIED BY 'tiger'",
    "GRANT ALL ON *.* TO scott@localhost",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="sqlalchemy-suite", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the source and logs")
    parser.add_argument("test", nargs="*", help=f"files below SQLAlchemy's source (default: {' '.join(SUITES)})")
    given = parser.parse_args()
    source = _source(given.cache, sqlalchemy.__version__)
    tests = given.test or SUITES
    stock, ours = (_run(subject, source, given.cache, tests) for subject in ("stock", "lease"))
    differences = [_class_and_name(test) for test in lost(stock, ours)]
    for test in differences:
        report(f"  {test}: {ON_PURPOSE.get(test, 'NOT on purpose')}")
    return 0 if set(differences) <= set(ON_PURPOSE) else 1


def _class_and_name(test: str) -> str:
    """Without the module, and the database that SQLAlchemy puts behind the class's name."""
    before, _, name = test.rpartition("test_")
    return f"{before.rstrip('.').rpartition('.')[2].partition('_')[0]}.test_{name}"


def _source(cache: Path, version: str) -> Path:
    folder = cache / f"sqlalchemy-{version}"
    if not folder.is_dir():
        report(f"fetching the source of SQLAlchemy {version}")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--no-binary=:all:", f"--dest={cache}", f"SQLAlchemy=={version}"], check=True)
        unpack(next(cache.glob(f"[Ss][Qq][Ll][Aa]lchemy-{version}.tar.gz")), cache)
    return folder


def _run(subject: str, source: Path, cache: Path, tests: Sequence[str]) -> Results:
    options = ["--character-set-server=utf8mb4", "--max-connections=300"]
    with DevServer(database=None, options=options) as server:  # one for each: some tests leave tables behind
        execute(server, SET_UP)
        environment = {
            **os.environ,
            "SQLALCHEMY_SUITE_SUBJECT": subject,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE))),
        }
        url = f"mysql+pymysql://scott:tiger@{server.host}:{server.port}/test?charset=utf8mb4"
        command = [sys.executable, "-m", "pytest", "-p", "plugin", "-q", "--timeout=120", "--dburi", url]
        results = run_pytest(
            [*command, "--maxfail=10000", *tests], source, environment, cache / f"{subject}.xml", seconds=1800
        )
        report(f"{subject}, {server.version}: {describe(results)}")
    return results


if __name__ == "__main__":
    sys.exit(main())
