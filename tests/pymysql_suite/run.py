"""Runs PyMySQL's own tests on its own connection and on ours; `scripts/pymysql-suite` calls it.

The tests come from PyMySQL's repository (they are in no distribution of it), and run with the PyMySQL they belong to.
Exits 0 when every test that passes on PyMySQL's connection passes on ours, but for those of `ON_PURPOSE`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import pymysql

from pymysqlpool.devserver import DevServer

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

Results = dict[str, str]  # test to "passed", "skipped", "failed: why"


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
    source = given.source or _download(given.cache, given.pymysql)
    with DevServer(database=None, options=["--max-allowed-packet=64M"]) as server:
        _execute(server, SET_UP)
        (source / "pymysql" / "tests" / "databases.json").write_text(json.dumps(_databases(server)))
        _report(f"{server.version}, {source.name}, Python {sys.version.split()[0]}")
        stock, *others = (_run(subject, server, source, given.cache) for subject in ("stock", *subjects))
        differences = [
            set(_compare(stock, ours)) - ON_PURPOSE.get(subject, set())
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


def _download(cache: Path, version: str) -> Path:
    folder = cache / f"PyMySQL-{version}"
    if not folder.is_dir():
        url = SOURCE.format(version)
        _report(f"fetching {url}")
        archive = cache / f"PyMySQL-{version}.tar.gz"
        with urllib.request.urlopen(url, timeout=60) as answer:
            archive.write_bytes(answer.read())
        with tarfile.open(archive) as opened:
            opened.extractall(cache, filter="data")
    return folder


def _execute(server: DevServer, statements: Iterable[str]) -> None:
    with pymysql.connect(**server.socket_args, autocommit=True) as connection:
        for statement in statements:
            connection.query(statement)


def _run(subject: str, server: DevServer, source: Path, cache: Path) -> Results:
    _execute(server, FRESH)  # a test that fails may leave its table behind
    report = cache / f"{source.name}-{subject}.xml"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYMYSQL_SUITE_SUBJECT": subject,
        "PYTHONPATH": os.pathsep.join(map(str, (source, ROOT, HERE))),
    }
    options = ["-p", "plugin", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(source)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--timeout=120",
        f"--junit-xml={report}",
        *options,
        "pymysql/tests",
    ]
    with report.with_suffix(".log").open("w") as log:
        subprocess.run(command, cwd=source, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=1200)
    results = _read(report)
    counts = {word: sum(said.startswith(word) for said in results.values()) for word in ("passed", "failed", "skipped")}
    _report(f"{SUBJECTS[subject]}: {', '.join(f'{number} {word}' for word, number in counts.items())}")
    return results


def _read(report: Path) -> Results:
    results: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('pymysql.tests.')}.{case.get('name')}"
        said = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                said = f"failed: {child.get('message', '')}"
            elif child.tag == "skipped":
                said = "skipped"
        results[name] = said
    return results


def _compare(stock: Results, ours: Results) -> list[str]:
    different = [name for name in sorted(stock | ours) if stock.get(name, "-")[:6] != ours.get(name, "-")[:6]]
    for name in different:
        _report(f"  {name}: {stock.get(name, 'not there')} there, {ours.get(name, 'not there')} here")
    return [name for name in different if stock.get(name) == "passed"]


def _report(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - speaks to a person in a terminal


if __name__ == "__main__":
    sys.exit(main())
