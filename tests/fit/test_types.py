"""What type checkers and editors know of the package: mypy and pyright themselves say it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pymysqlpool._util import arguments
from pymysqlpool.options import AllOptions
from pymysqlpool.settings import OPTION_NAMES

ROOT = Path(__file__).parent.parent.parent

RIGHT = """
import pymysql
import pymysqlpool
from pymysqlpool import ConnectionPool, ConnectionPoolSingleton, DictCursor, connect

pool = ConnectionPool(2, 3, "shop", host="db", port=3306, user="me", password=lambda: "x", autocommit=1, max_idle=30)
arguments: dict[str, object] = {}
with pool.get_connection(timeout=1) as connection:
    with connection.cursor() as cursor:
        number: int = cursor.execute("SELECT %s", (1,))
        row = cursor.fetchone()
        first = row[0]
        cursor.db_query("SELECT 1")
    with connection.cursor(pymysql.cursors.DictCursor) as rows:
        for one in rows:
            one["name"]
    connection.commit()
ConnectionPoolSingleton(size=1, host="db")
connect(host="db", user="me", autocommit=True, defer_connect=True).cursor().execute("SELECT 1")
pymysqlpool.logger.setLevel("DEBUG")
error: type[Exception] = pymysqlpool.errors.PoolTimeout
"""

WRONG = {
    "an option of neither": "ConnectionPool(hots='db')",
    "an option misspelt": "ConnectionPool(siz=3)",
    "an option's type": "ConnectionPool(max_idle='long')",
    "PyMySQL's type": "ConnectionPool(charset=8)",
    "a method of a cursor": "ConnectionPool().get_connection().cursor().exekute('SELECT 1')",
    "a method of a given cursor": "ConnectionPool().get_connection().cursor(SSCursor).exekute('SELECT 1')",
    "a method of a connection": "ConnectionPool().get_connection().comit()",
    "the singleton's": "ConnectionPoolSingleton(hots='db')",
    "the awaited pool's": "AsyncConnectionPool(hots='db')",
    "a cluster's": "Cluster(['db'], siz=3)",
    "a cluster's type": "Cluster(['db'], max_idle='long')",
    "a method of a pool": "ConnectionPool().get_conection()",
    "an argument of a borrow": "ConnectionPool().get_connection(timeot=3)",
    "the type of such": "ConnectionPool().get_connection(timeout='3')",
    "an attribute of the stats": "ConnectionPool().stats().inuse",
    "the type of a hook": "ConnectionPool(on_connect='SET @a = 1')",
    "a value of a few": "ConnectionPool(reset='sometimes')",
    "a password's": "ConnectionPool(password=1234)",
    "an argument of connect": "connect(hots='db')",
    "the type of one": "connect(port='3306')",
    "a connection without a pool": "Connection(hots='db')",
    "a name of the package": "pymysqlpool.PoolTimeot",
    "a name that is imported from it": "from pymysqlpool import ConectionPool",
}
IMPORTS = (
    "import pymysqlpool\n"
    "from pymysql.cursors import SSCursor\n"
    "from pymysqlpool import Connection, ConnectionPool, ConnectionPoolSingleton, connect\n"
    "from pymysqlpool.aio import AsyncConnectionPool\n"
    "from pymysqlpool.cluster import Cluster\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("types")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(IMPORTS + "\n".join(WRONG.values()) + "\n")
    return folder


def lines_with_errors(output: str, file: str) -> set[int]:
    return {
        int(line.split(file + ":")[1].split(":")[0])
        for line in output.splitlines()
        if file + ":" in line and "error" in line
    }


def check(folder: Path, command: list[str]) -> None:
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240).stdout
    assert not lines_with_errors(told, "right.py"), told
    first = IMPORTS.count("\n") + 1
    missed = [what for number, what in enumerate(WRONG, first) if number not in lines_with_errors(told, "wrong.py")]
    assert not missed, told


@pytest.mark.timeout(300)
def test_mypy_knows_the_options_and_the_cursors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    check(folder, [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "right.py", "wrong.py"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pyright_knows_the_options_and_the_cursors(folder: Path) -> None:
    (folder / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"]}}')
    check(folder, [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "right.py", "wrong.py"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", ["pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django"])
def test_every_public_name_has_a_known_type(package: str) -> None:
    # pyright asks the first `python` of PATH where the imported packages are.
    search = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"],
        env={**os.environ, **search},
        capture_output=True,
        text=True,
        timeout=240,
    ).stdout
    assert "Type completeness score: 100%" in told, told


def test_the_types_name_every_option_that_is_accepted() -> None:
    assert set(AllOptions.__annotations__) == OPTION_NAMES | arguments.NAMES | {"reuse_policy"}
