"""Log records have fields, for handlers that write JSON; and a borrow says nothing above DEBUG."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool import PoolTimeout
from tests.conftest import MakePool

ROOT = Path(__file__).parent.parent.parent
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def test_every_record_of_the_package_has_fields() -> None:
    calls = [
        (path, node)
        for package in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value).rpartition(".")[2] in ("logger", "log")
        and node.func.attr in ("debug", "info", "warning", "error", "exception", "log")
    ]
    assert len(calls) > 15
    bare = [f"{path}:{node.lineno}" for path, node in calls if "extra" not in {word.arg for word in node.keywords}]
    assert not bare


def test_the_fields_say_what_happened_to_which_pool(make_pool: MakePool, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "pymysqlpool")
    pool = make_pool(name="shop", size=1, maxsize=1, autocommit=False)
    with pool.get_connection() as connection:
        connection.execute("CREATE TEMPORARY TABLE t (a INT)")
        with pytest.raises(PoolTimeout):
            pool.get_connection(timeout=0.02)
        connection.invalidate()
    connection = pool.get_connection()
    connection.begin()
    connection.execute("CREATE TEMPORARY TABLE t (a INT) ENGINE=InnoDB")
    connection.begin()
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    dropped = pool.get_connection()
    dropped.execute("SELECT 1")
    del dropped
    with pool.get_connection():
        pass
    events: dict[str, Any] = {}
    for record in caplog.records:
        fields = {name: value for name, value in vars(record).items() if name not in STANDARD}
        assert fields["pool"] == "shop"
        events[fields["event"]] = record.levelname, fields
    assert {"connect", "borrow", "return", "discard", "rollback", "leak"} <= events.keys()
    assert events["rollback"][0] == events["leak"][0] == "WARNING"
    assert events["leak"][1]["seconds"] >= 0
    assert "test_logs.py" in events["leak"][1]["place"]
    assert events["discard"][1]["reason"] in pool.stats().discarded


def test_ordinary_work_says_nothing_above_debug(make_pool: MakePool, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "pymysqlpool")
    pool = make_pool()
    for _ in range(5):
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")
    pool.drain()
    pool.close()
    assert not caplog.records
