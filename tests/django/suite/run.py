"""Runs Django's own test suite on `pymysqlpool_django` and a throwaway server; `scripts/django-suite` calls it.

Fetches Django's source (which has the tests) once, with pip. Exits 0 when nothing failed but what `allowed.txt` lists.
Must run in a virtual environment that may be changed: Django's test requirements are installed into it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pymysql

from pymysqlpool.devserver import DevServer

HERE = Path(__file__).parent
POOLS = {
    "on": {"pool": {"maxsize": 20}},
    "transaction": {"pool": {"maxsize": 20, "release": "transaction"}},
    "off": {},
}
SERVER_OPTIONS = (
    "--collation-server=utf8mb4_general_ci",
    "--max-connections=500",
    "--innodb-buffer-pool-size=512M",
    "--table-open-cache=4000",
)
# Need a compiler and libraries that have nothing to do with databases; their tests skip themselves.
NOT_INSTALLED = frozenset({"pylibmc", "pywatchman", "colorama"})


def main() -> int:
    given = _arguments()
    source = _source(given.cache, given.django)
    labels = given.labels or ([] if given.full else _lines(HERE / ("subset.txt" if given.subset else "quick.txt")))
    labels = [label for label in labels if (source / "tests" / label.partition(".")[0]).is_dir()]
    with DevServer(database=None, options=SERVER_OPTIONS) as server:
        with pymysql.connect(**server.connect_args) as connection:
            # Imported late: tzdata comes with Django's requirements.
            import zones

            count = zones.load(connection)
        _report(f"{server.version} with {count} time zones; Django in {source.name}; pool {given.pool}")
        started = time.monotonic()
        log = given.log or given.cache / f"{source.name}-{given.pool}.log"
        code = _run(given, source, labels, server, log)
    conditions = (
        {"always"} | ({"root"} if _is_root() else set()) | ({"early"} if given.pool == "transaction" else set())
    )
    return _compare(log, code, time.monotonic() - started, conditions)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="django-suite", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="a subset for CI (the default)")
    which.add_argument("--subset", action="store_true", help="everything near the database: some 7,700 tests")
    which.add_argument("--full", action="store_true", help="the whole suite: some 18,000 tests")
    parser.add_argument("--django", default="5.2", metavar="X.Y", help="the version of Django (default: 5.2)")
    parser.add_argument("--pool", choices=POOLS, default="on", help="OPTIONS['pool'] (default: on)")
    parser.add_argument("--options", type=json.loads, metavar="JSON", help="OPTIONS instead, as JSON")
    parser.add_argument("--engine", default="pymysqlpool_django", help="ENGINE of the alias default")
    parser.add_argument("--engine-other", metavar="ENGINE", help="ENGINE of the alias other, if different")
    parser.add_argument("--parallel", default="1", metavar="N", help="processes; more than 1 needs mysqldump")
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), help="of those processes")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for Django's source and logs")
    parser.add_argument("--log", type=Path, help="where the output goes (default: into the cache)")
    parser.add_argument("labels", nargs="*", help="test labels, instead of a subset")
    return parser.parse_args()


def _source(cache: Path, version: str) -> Path:
    """Django's unpacked source distribution, installed in this environment with its tests' requirements."""
    cache.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not (found := sorted(cache.glob(f"[dD]jango-{version}.*.tar.gz"))):
        _report(f"fetching the source of Django {version}")
        command = [*pip, "download", "--no-deps", "--no-binary", "Django", "--dest", str(cache)]
        subprocess.run([*command, f"Django=={version}.*"], check=True)
        found = sorted(cache.glob(f"[dD]jango-{version}.*.tar.gz"))
    source = found[-1].with_name(found[-1].name.removesuffix(".tar.gz"))
    if not source.is_dir():
        with tarfile.open(found[-1]) as archive:
            archive.extractall(cache, filter="data")
    stamp = Path(sys.prefix) / f".{source.name}"
    if not stamp.exists():
        _report(f"installing {source.name} and what its tests need into {sys.prefix}")
        needs = _lines(source / "tests" / "requirements" / "py3.txt")
        names = [re.split(r"[ ;<>=]", line)[0] for line in needs]
        subprocess.run(
            [*pip, "install", "-e", str(source), "cryptography", *(n for n in names if n not in NOT_INSTALLED)],
            check=True,
        )
        stamp.touch()
    return source


def _run(given: argparse.Namespace, source: Path, labels: list[str], server: DevServer, log: Path) -> int:
    options = POOLS[given.pool] if given.options is None else given.options
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "SUITE_PORT": str(server.port),
        "SUITE_PASSWORD": server.connect_args["password"],
        "SUITE_OPTIONS": json.dumps(options),
        "SUITE_ENGINE": given.engine,
        "SUITE_ENGINE_OTHER": given.engine_other or given.engine,
    }
    command = [sys.executable, "runtests.py", "--settings=settings", "--noinput", "-v2", f"--parallel={given.parallel}"]
    if given.start_method:
        environment["SUITE_START_METHOD"] = given.start_method
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE / "start_method"), str(HERE)])
    _report(f"running {len(labels) or 'all'} labels; the output goes to {log}")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *labels], cwd=source / "tests", env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        return process.wait()


def _compare(log: Path, code: int, seconds: float, conditions: set[str]) -> int:
    """Say what happened, and compare it with what may happen."""
    text = log.read_text(errors="replace")
    ran = re.findall(r"^Ran (\d+) tests? in", text, re.MULTILINE)
    failed = set(re.findall(r"^(?:FAIL|ERROR): \S+ \(([^)]+)\)", text, re.MULTILINE))
    allowed = {test for when, test in map(str.split, _lines(HERE / "allowed.txt")) if when in conditions}
    skipped = len(re.findall(r" \.\.\. skipped ", text))
    unexpected = sorted(failed - allowed)
    _print(
        f"ran {ran[-1] if ran else 'nothing'}, failed {len(failed)} ({len(failed & allowed)} allowed), "
        f"skipped {skipped}, {seconds:.0f} s"
    )
    for test in unexpected:
        _print(f"  unexpected: {test}")
    if not ran or (code and not failed):
        _print(text[-3000:])
        return 1
    return bool(unexpected)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def _report(what: str) -> None:
    sys.stderr.write(f"==> {what}\n")


def _print(what: str) -> None:
    sys.stdout.write(f"{what}\n")


if __name__ == "__main__":
    sys.exit(main())
