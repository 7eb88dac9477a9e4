"""The harbour log's table and what stands in it at first.

Owns: the statements. Never: borrows a connection; it is given one.
"""

from __future__ import annotations

import random
from typing import Any

from pymysql.cursors import DictCursor

from pymysqlpool.aio import AsyncConnection

SHIPS = ("Alca", "Brent Goose", "Curlew", "Dunlin", "Eider", "Fulmar", "Gannet", "Heron", "Ibis", "Jackdaw")
REMARKS = ("took the pilot on board", "is fast at berth 4", "asks for a tug", "left for the roads", "lands 12 t of cod")

_TABLE = """
    CREATE TABLE IF NOT EXISTS entry (
        id INT AUTO_INCREMENT PRIMARY KEY,
        ship VARCHAR(40) NOT NULL,
        remark VARCHAR(200) NOT NULL,
        made_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
        KEY (ship)
    ) ENGINE=InnoDB
"""


async def load(connection: AsyncConnection) -> int:
    """Make the table and fill it when it is empty; returns how many entries it has."""
    async with connection.cursor() as cursor:
        await cursor.execute(_TABLE)
        await cursor.execute("SELECT COUNT(*) FROM entry")
        (number,) = await cursor.fetchone()
        if not number:
            chance = random.Random(1)
            entries = [(chance.choice(SHIPS), chance.choice(REMARKS), minutes) for minutes in range(4000, 0, -10)]
            await cursor.executemany(
                "INSERT INTO entry (ship, remark, made_at) VALUES (%s, %s, NOW() - INTERVAL %s MINUTE)", entries
            )
            number = len(entries)
    return int(number)


async def latest(connection: AsyncConnection, after: int = 0) -> list[dict[str, Any]]:
    """The last entries, newest first."""
    async with connection.cursor(DictCursor) as cursor:
        await cursor.execute("SELECT id, ship, remark FROM entry WHERE id > %s ORDER BY id DESC LIMIT 20", (after,))
        return list(await cursor.fetchall())


async def last_of(connection: AsyncConnection, ship: str) -> str:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT remark FROM entry WHERE ship = %s ORDER BY id DESC LIMIT 1", (ship,))
        row = await cursor.fetchone()
    return f"{ship} {row[0]}" if row else f"No ship called {ship} has been here"


async def write(connection: AsyncConnection, ship: str, remark: str) -> int:
    async with connection.cursor() as cursor:
        await cursor.execute("INSERT INTO entry (ship, remark) VALUES (%s, %s)", (ship, remark))
        return cursor.lastrowid or 0


def per_ship(connection: Any) -> list[tuple[str, int]]:
    """How often each ship was here. Sync: for an endpoint that runs in a thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ship, COUNT(*) FROM entry GROUP BY ship ORDER BY ship")
        return list(cursor.fetchall())
