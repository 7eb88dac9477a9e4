"""`ping`: connect, ask for the version, report how long it took.

Owns: that command. Never: shows a password.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import pymysql


def run(where: dict[str, Any], given: argparse.Namespace) -> int:
    began = perf_counter()
    connection = pymysql.connect(**where)
    try:
        connected = perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            (version,) = cursor.fetchone() or ("unknown",)
        answered = perf_counter()
    finally:
        connection.close()
    print(
        f"{place(where)} is {version}: connected in {(connected - began) * 1e3:.1f} ms, "
        f"answered in {(answered - connected) * 1e3:.2f} ms"
    )
    return 0


def place(where: dict[str, Any]) -> str:
    """Return where the server of these arguments is."""
    return str(where.get("unix_socket") or f"{where.get('host', 'localhost')}:{where.get('port', 3306)}")
