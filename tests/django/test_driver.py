"""The driver is PyMySQL throughout, with and without mysqlclient (must-handle 1 to 5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pymysql
import pytest
from django.db import IntegrityError, InterfaceError, OperationalError

from pymysqlpool.devserver import DevServer

from .conftest import ISOLATION, ROOT, Connect, RunSite, database

# An installed MySQLdb of which nothing may be used but what Django's backend reads while it is imported.
STRANGER = {
    "__init__.py": """
version_info = (2, 2, 8, "final", 0)
__version__ = "2.2.8"
class Error(Exception): pass
class DatabaseError(Error): pass
class OperationalError(DatabaseError): pass
class NotSupportedError(DatabaseError): pass
def connect(*args, **kwargs): raise AssertionError("MySQLdb.connect was called")
""",
    "constants/__init__.py": "",
    "constants/CLIENT.py": "FOUND_ROWS = 2",
    "constants/FIELD_TYPE.py": "from pymysql.constants.FIELD_TYPE import *",
    "converters.py": """
def refuse(*args): raise AssertionError("a converter of MySQLdb was called")
conversions = {kind: refuse for kind in (int, str, bytes, float, bool, type(None), *range(256))}
""",
}


def install_stranger(folder: Path) -> Path:
    for name, text in STRANGER.items():
        path = folder / "stranger" / "MySQLdb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "stranger"


TALK = """
def main():
    from django.db import IntegrityError, connection, transaction
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE one (id INT NOT NULL, t TIME, b BLOB, CHECK (id < 9))")
        cursor.execute("INSERT INTO one VALUES (%s, %s, %s)", [1, "10:11:12", b"\\xff\\x00"])
        cursor.executemany("INSERT INTO one VALUES (%s, %s, %s)", [(2, None, None), (3, None, None)])
        cursor.execute("SELECT id, t FROM one WHERE b = %s", [b"\\xff\\x00"])
        row = cursor.fetchone()
        try:
            cursor.execute("INSERT INTO one (id) VALUES (10)")
            refused = None
        except IntegrityError as error:
            refused = error.args[0]
    with transaction.atomic():
        pass
    import MySQLdb
    from pymysqlpool import Connection
    report([row[0], str(row[1]), refused in (3819, 4025), MySQLdb.__name__,
            isinstance(connection.connection, Connection), connection.is_usable(), connection.Database.__name__])
"""


@pytest.mark.parametrize("pool", [True, None], ids=["pooled", "plain"])
def test_nothing_of_an_installed_mysqlclient_is_used_and_it_is_not_replaced(
    run_site: RunSite, server: DevServer, tmp_path: Path, pool: Any
) -> None:
    told = run_site(TALK, {"default": database(server, pool)}, path=(install_stranger(tmp_path),))
    assert told == [1, "10:11:12", True, "MySQLdb", True, True, "pymysql"]


def test_pymysql_stands_in_where_there_is_no_mysqlclient(run_site: RunSite, server: DevServer) -> None:
    try:
        import MySQLdb
    except ImportError:
        pass
    else:
        if MySQLdb is not pymysql:
            pytest.skip("mysqlclient is installed here")
    told = run_site(TALK, {"default": database(server)})
    assert told[:4] == [1, "10:11:12", True, "pymysql"]


@pytest.mark.parametrize("pool", [True, None], ids=["pooled", "plain"])
def test_connects_to_a_server_that_has_sql_auto_is_null_on(
    connect: Connect, admin: Any, server: DevServer, pool: Any
) -> None:
    with admin.cursor() as cursor:
        cursor.execute("SET GLOBAL sql_auto_is_null = 1")
        try:
            with connect(pool).cursor() as ours:
                ours.execute(f"SELECT @@sql_auto_is_null, {ISOLATION}")
                assert ours.fetchone() == (0, "READ-COMMITTED")
        finally:
            cursor.execute("SET GLOBAL sql_auto_is_null = 0")


def test_a_converter_that_raises_does_not_poison_the_next_request(connect: Connect, table: str) -> None:
    """Django's converter refuses a TIME of 24 hours or more, and PyMySQL by itself leaves the other rows unread."""
    wrapper = connect()
    for number in range(3):
        with pytest.raises(ValueError, match="hour must be in"), wrapper.cursor() as cursor:
            cursor.execute("SELECT CAST('30:00:00' AS TIME) UNION ALL SELECT CAST('10:00:00' AS TIME)")
        wrapper.close()
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT %s", [number])
            assert cursor.fetchone() == (number,)
        wrapper.close()
    assert wrapper.pool.stats().in_use == 0


@pytest.mark.parametrize("pool", [True, None], ids=["pooled", "plain"])
def test_errors_are_djangos(connect: Connect, table: str, pool: Any) -> None:
    wrapper = connect(pool)
    with wrapper.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('x')")
        with pytest.raises(IntegrityError):
            cursor.execute(f"INSERT INTO {table} (name) VALUES ('x')")
    with pytest.raises(OperationalError), connect(pool, PASSWORD="wrong").cursor():
        pass


def test_a_cursor_is_refused_after_its_connection_went_back(connect: Connect) -> None:
    wrapper = connect()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        wrapper.close()
        with pytest.raises(InterfaceError, match="returned to the pool"):
            cursor.execute("SELECT 2")


def test_one_tls_context_serves_all_connections_of_a_pool(
    server: DevServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    built = []
    original = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda *a, **k: built.append(1) or original(*a, **k))
    wrapper = connect({"size": 3}, ssl_disabled=False)
    for copy in [wrapper, wrapper.copy(), wrapper.copy()]:
        copy.ensure_connection()
    assert wrapper.pool.stats().created == 3
    assert len(built) == 1


def test_pymysqls_error_classes_stay_the_ones_it_raises() -> None:
    """Django imports `MySQLdb.converters`; loading PyMySQL's a second time would replace `pymysql.err`."""
    script = (
        "import pymysqlpool_django.base, pymysql, pymysql.connections, MySQLdb.converters;"
        "assert pymysql.err is pymysql.connections.err, (pymysql.err, pymysql.connections.err);"
        "assert pymysql.err.OperationalError is pymysql.OperationalError"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("value", "read"), [(b"it's \\ \x00\xff", b"it's \\ \x00\xff"), (False, 0), (True, 1), ("it's", "it's"), (42, 42)]
)
def test_a_quoted_value_reads_the_same_in_sql(connect: Connect, value: Any, read: Any) -> None:
    editor = connect().schema_editor()
    with editor.connection.cursor() as cursor:
        cursor.execute("SELECT %s" % editor.quote_value(value))  # noqa: UP031 - as Django's constraints do it
        assert cursor.fetchone() == (read,)


def test_values_are_quoted_as_by_mysqlclient(connect: Connect) -> None:
    editor = connect().schema_editor()
    assert editor.quote_value(b"it's") == b"'it\\'s'"
    assert [editor.quote_value(value) for value in (True, False, 1, "x")] == [b"1", b"0", "1", "'x'"]
