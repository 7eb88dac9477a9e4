"""What statements are called in traces."""

from __future__ import annotations

import pytest

from pymysqlpool._observe.sqltext import describe, sanitized


@pytest.mark.parametrize(
    ("sql", "operation", "summary"),
    [
        ("SELECT 1", "SELECT", "SELECT"),
        ("select name from `shop`.`item` where id = 7", "SELECT", "SELECT shop.item"),
        ("SELECT a.x FROM a JOIN b ON a.i = b.i", "SELECT", "SELECT a b"),
        ("/* route=index */ SELECT * FROM item -- the end", "SELECT", "SELECT item"),
        ("INSERT INTO orders (id) SELECT id FROM basket", "INSERT", "INSERT orders SELECT basket"),
        ("INSERT IGNORE INTO t VALUES ('x FROM y', 1)", "INSERT", "INSERT t"),
        ("UPDATE item SET stock = stock - 1 WHERE id = 7", "UPDATE", "UPDATE item"),
        ("DELETE FROM item WHERE id IN (SELECT id FROM old)", "DELETE", "DELETE item SELECT old"),
        ("CREATE TABLE IF NOT EXISTS t (id INT)", "CREATE", "CREATE t"),
        ("DROP TEMPORARY TABLE t", "DROP", "DROP t"),
        ("CALL restock(7)", "CALL", "CALL restock"),
        ("COMMIT", "COMMIT", "COMMIT"),
        ("SELECT 1 FROM dual", "SELECT", "SELECT"),
        ("\u00fcbel", "", ""),
        ("", "", ""),
    ],
)
def test_a_statement_is_named_by_its_operations_and_what_they_work_on(sql: str, operation: str, summary: str) -> None:
    assert describe(sql) == (operation, summary)


def test_a_name_is_never_longer_than_the_convention_allows() -> None:
    assert len(describe("SELECT 1 FROM " + " JOIN ".join(f"table{i}" for i in range(500)))[1]) == 255


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT 'it''s', \"x\\\"y\", 0xFF, 1.5e3, b FROM t1 -- secret", "SELECT ?, ?, ?, ?, b FROM t1"),
        ("SELECT /* secret */ 1", "SELECT   ?"),
        ("SELECT 'open", "SELECT ?"),
    ],
)
def test_no_value_is_left_in_a_sanitized_statement(sql: str, text: str) -> None:
    assert sanitized(sql) == text


@pytest.mark.parametrize("unit", ["'", "''", "\\", "/*", "*", "-- ", "`", "#", "0x", "1e", "(", " ", "a.", "\"'"])
def test_reading_takes_time_linear_in_the_text(unit: str) -> None:
    for sql in (unit * 200_000, "SELECT '" + unit * 200_000):
        assert len(sanitized(sql)) <= len(sql)  # a reading that is not linear would not end within the test's limit
        describe(sql)
