"""The visitors' book itself: what all four applications share. Environment: DB_HOST, DB_PORT, DB_NAME, DB_POOL."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pymysql.cursors import SSCursor

from pymysqlpool import ConnectionPool
from pymysqlpool.request_scope import current_connection

CONNECTIONS = int(os.environ.get("DB_POOL", "8"))
LINES_AT_A_TIME = 100
pool = ConnectionPool(
    host=os.environ.get("DB_HOST", "127.0.0.1"),
    port=int(os.environ.get("DB_PORT", "3306")),
    user=os.environ.get("DB_USER", "root"),
    password=os.environ.get("DB_PASSWORD", ""),
    database=os.environ.get("DB_NAME", "test"),
    size=CONNECTIONS,
    maxsize=CONNECTIONS,
    timeout=10,
    read_timeout=30,  # seconds; above the slowest statement
)

TABLE = "CREATE TABLE IF NOT EXISTS visitor (id INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(200) NOT NULL)"


def open_book() -> None:
    """Make the table, once."""
    with pool.get_connection() as connection:
        connection.execute(TABLE)


def read() -> str:
    with current_connection(pool).cursor() as cursor:
        cursor.execute("SELECT line FROM visitor ORDER BY id DESC LIMIT 20")
        return "".join(f"{line}\n" for (line,) in cursor.fetchall())


def stream() -> Iterator[bytes]:
    """The whole book, some lines at a time, as the client takes it: it is never in memory as a whole."""
    with current_connection(pool).cursor(SSCursor) as cursor:
        cursor.execute("SELECT line FROM visitor ORDER BY id")
        while lines := cursor.fetchmany(LINES_AT_A_TIME):
            yield "".join(f"{line}\n" for (line,) in lines).encode()


def write(line: str) -> str:
    if not line.strip():
        raise ValueError("an empty line is no visitor")
    with current_connection(pool).cursor() as cursor:
        cursor.execute("INSERT INTO visitor (line) VALUES (%s)", (line.strip()[:200],))
    return "Thank you.\n"


def numbers() -> dict[str, int]:
    now = pool.stats()
    return {"in_use": now.in_use, "waiting": now.waiting, "created": now.created, "leaked": now.leaked}
