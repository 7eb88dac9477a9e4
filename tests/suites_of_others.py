"""What the runners of other projects' test suites share: their sources, pytest's reports, and the comparison.

Owns: the download of a source, the results read from a report, how two runs differ. Never: knows which suite it is.
"""

from __future__ import annotations

import subprocess
import tarfile
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pymysql

from pymysqlpool.devserver import DevServer

Results = dict[str, str]  # test to "passed", "skipped", "failed: why"


def fetch_source(cache: Path, folder_name: str, url: str) -> Path:
    """The unpacked source of `url`, whose archive holds one folder of this name; kept in `cache`."""
    folder = cache / folder_name
    if not folder.is_dir():
        report(f"fetching {url}")
        archive = cache / f"{folder_name}.tar.gz"
        with urllib.request.urlopen(url, timeout=60) as answer:
            archive.write_bytes(answer.read())
        unpack(archive, cache)
    return folder


def unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")


def execute(server: DevServer, statements: Iterable[str]) -> None:
    with pymysql.connect(**server.socket_args, autocommit=True) as connection:
        for statement in statements:
            connection.query(statement)


def run_pytest(
    command: Sequence[str], source: Path, environment: Mapping[str, str], junit: Path, *, seconds: float
) -> Results:
    """The results of pytest in `source`, whose output goes to a log beside the report `junit`."""
    junit.unlink(missing_ok=True)
    with junit.with_suffix(".log").open("w") as log:
        subprocess.run(
            [*command, f"--junit-xml={junit}"],
            cwd=source,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    return _read(junit)


def _read(junit: Path) -> Results:
    results: Results = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        said = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                said = f"failed: {child.get('message', '')}"
            elif child.tag == "skipped":
                said = "skipped"
        results[f"{case.get('classname', '')}.{case.get('name')}"] = said
    return results


def describe(results: Results) -> str:
    counts = {word: sum(said.startswith(word) for said in results.values()) for word in ("passed", "failed", "skipped")}
    return ", ".join(f"{number} {word}" for word, number in counts.items())


def lost(stock: Results, ours: Results) -> list[str]:
    """The tests that pass in `stock` and not in `ours`; each difference, of either kind, is reported."""
    different = [name for name in sorted(stock | ours) if stock.get(name, "-")[:6] != ours.get(name, "-")[:6]]
    for name in different:
        report(f"  {name}: {stock.get(name, 'not there')} there, {ours.get(name, 'not there')} here")
    return [name for name in different if stock.get(name) == "passed"]


def report(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - speaks to a person in a terminal
