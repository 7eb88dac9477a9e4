"""Runs PyMySQL's own tests on its own connection and on ours; `scripts/pymysql-suite` calls it.

The tests come from PyMySQL's repository (they are in no distribution of it), and run with the PyMySQL they belong to.
Exits 0 when every test that passes on PyMySQL's connection passes on ours, but for those of `ON_PURPOSE`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pymysqlpool.devserver import DevServer

from ..suites_of_others import Results, describe, execute, fetch_source, lost, report, run_pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SUBJECTS = {
    "stock": "PyMySQL's own connection",
    "reader": "ours",
    "plain": "ours, fast_reader off",
    "pool": "ours, lent by a pool",
}
# These use a connection after its `close()`, which a lease refuses.
ON_PURPOSE = {
    "pool": {
        "test_issues.TestGitHubIssues.test_issue_114",
        "test_load_local.TestLoadLocal.test_unbuffered_load_file",
    }
}
SOURCE = "https://github.com/PyMySQL/PyMySQL/archive/refs/tags/v{}.tar.gz"
FRESH = tuple(
    statement
    for database in ("test1", "test2")
    for statement in (
        f"DROP DATABASE IF EXISTS {database}",
        f"CREATE DATABASE {database} DEFAULT CHARACTER SET utf8mb4",
    )
)
SET_UP = (
    "SET GLOBAL local_infile = 1",
    "CREATE USER test2 IDENTIFIED BY 'some password'",
    "GRANT ALL ON test2.* TO test2",
    "CREATE USER test2@localhost IDENTIFIED BY 'some password'",
    "GRANT ALL ON test2.* TO test2@localhost",
    "CREATE USER test2@'127.0.0.1' IDENTIFIED BY 'some password'",
    "GRANT ALL ON test2.* TO test2@'127.0.0.1'",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="pymysql-suite", description=__doc__)
    parser.add_argument("--pymysql", default="1.2.4", metavar="X.Y.Z", help="the version of PyMySQL (default: 1.2.4)")
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="its unpacked source, instead of a download")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for sources and logs")
    parser.add_argument("subject", nargs="*", help=f"{', '.join(list(SUBJECTS)[1:])} (default: reader plain)")
    given = parser.parse_args()
    subjects = given.subject or ["reader", "plain"]
    if not set(subjects) <= set(SUBJECTS):
        parser.error(f"unknown subject in {' '.join(subjects)}")
    version = given.pymysql
    source = given.source or fetch_source(given.cache, f"PyMySQL-{version}", SOURCE.format(version))
    with DevServer(database=None, options=["--max-allowed-packet=64M"]) as server:
        execute(server, SET_UP)
        (source / "pymysql" / "tests" / "databases.json").write_text(json.dumps(_databases(server)))
        report(f"{server.version}, {source.name}, Python {sys.version.split()[0]}")
        stock, *others = (_run(subject, server, source, given.cache) for subject in ("stock", *subjects))
        differences = [
            set(lost(stock, ours)) - ON_PURPOSE.get(subject, set())
            for subject, ours in zip(subjects, others, strict=True)
        ]
    return 1 if any(differences) else 0


def _databases(server: DevServer) -> list[dict[str, object]]:
    root = {
        "user": "root",
        "password": server.connect_args["password"],
        "database": "test1",
        "use_unicode": True,
        "local_infile": True,
    }
    other = {"user": "test2", "password": "some password", "database": "test2"}
    return [
        {"host": "localhost", "port": server.port, "unix_socket": server.unix_socket, **root},
        {"host": server.host, "port": server.port, **other},
    ]


def _run(subject: str, server: DevServer, source: Path, cache: Path) -> Results:
    execute(server, FRESH)  # a test that fails may leave its table behind
    environment = {
        **os.environ,
        "PYMYSQL_SUITE_SUBJECT": subject,
        "PYTHONPATH": os.pathsep.join(map(str, (source, ROOT, HERE))),
    }
    options = ["-p", "plugin", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(source)]
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=120", *options, "pymysql/tests"]
    results = run_pytest(command, source, environment, cache / f"{source.name}-{subject}.xml", seconds=1200)
    results = {name.removeprefix("pymysql.tests."): said for name, said in results.items()}
    report(f"{SUBJECTS[subject]}: {describe(results)}")
    return results


if __name__ == "__main__":
    sys.exit(main())
