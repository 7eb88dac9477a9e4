"""`check`: the server's version and abilities, what the pool will use of them, and what to correct.

Owns: the advice. Never: changes anything on the server.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pymysql
from pymysql import err

from .._driver.role import QUESTIONS, read
from ..pool import ConnectionPool
from ..settings import DEFAULT_MAXSIZE

_VARIABLES = (
    "version",
    "version_comment",
    "max_connections",
    "max_user_connections",
    "wait_timeout",
    "max_allowed_packet",
    "character_set_server",
    "collation_server",
    "sql_mode",
    "default_storage_engine",
    "session_track_state_change",
)
_THIS_MACHINE = (None, "localhost", "127.0.0.1", "::1")
_SHORT_WAIT = 60  # seconds of wait_timeout below which idle connections die often


def run(where: dict[str, Any], given: argparse.Namespace) -> int:
    connection = pymysql.connect(**where)
    try:
        facts = _facts(connection)
        role = read([_rows(connection, question) for question in QUESTIONS])
        grants = _grants(connection)
        encrypted = _cipher(connection)
    finally:
        connection.close()
    print(f"server       {facts['version']} ({facts.get('version_comment', '')})")
    is_ready = role.ready and not role.donor
    print(f"role         {'ready' if is_ready else 'NOT READY'}, {'takes writes' if role.writable else 'read-only'}")
    print(f"             {role.said}")
    print(f"this login   {encrypted or 'not encrypted'}")
    for line in _tls(where):
        print(f"TLS          {line}")
    print(f"limits       max_connections {facts['max_connections']}, used now {facts['Threads_connected']},")
    print(f"             max_user_connections {facts.get('max_user_connections', '0')} (0: no limit)")
    print(
        f"             wait_timeout {facts['wait_timeout']} s, max_allowed_packet {facts['max_allowed_packet']} bytes"
    )
    print(f"character    {facts['character_set_server']}, {facts['collation_server']}; sql_mode {facts['sql_mode']}")
    print(f"pool         {_reset(where)}")
    print(f"             {_room(facts)}")
    advice = list(_advice(facts, is_ready, encrypted, where, grants))
    for line in advice:
        print(f"mend         {line}")
    if not advice:
        print("mend         nothing")
    return 0 if is_ready else 1


def _rows(connection: Any, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def _facts(connection: Any) -> dict[str, str]:
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = _rows(connection, f"SHOW VARIABLES WHERE Variable_name IN ({names})")
    rows += _rows(connection, "SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    return {str(name): str(value) for name, value in rows}


def _grants(connection: Any) -> str:
    return "\n".join(str(row[0]) for row in _rows(connection, "SHOW GRANTS"))


def _cipher(connection: Any) -> str:
    values = dict(_rows(connection, "SHOW STATUS WHERE Variable_name IN ('Ssl_cipher', 'Ssl_version')"))
    return f"{values['Ssl_version']}, {values['Ssl_cipher']}" if values.get("Ssl_cipher") else ""


def _tls(where: dict[str, Any]) -> Iterator[str]:
    """Report the result of each TLS mode."""
    if where.get("unix_socket"):
        return
    plain = {name: value for name, value in where.items() if not name.startswith("ssl")}
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    ways: list[tuple[str, dict[str, Any]]] = [
        ("without", {"ssl_disabled": True}),
        ("encrypted, certificate not looked at", {"ssl": unverified}),
        ("encrypted, certificate and name verified", {"ssl": ssl.create_default_context(cafile=where.get("ssl_ca"))}),
    ]
    for way, options in ways:
        began = perf_counter()
        try:
            pymysql.connect(**plain, **options).close()
        except (err.MySQLError, OSError) as error:
            yield f"{way}: refused: {error}"
        else:
            yield f"{way}: connected in {(perf_counter() - began) * 1e3:.1f} ms"


def _reset(where: dict[str, Any]) -> str:
    """Report how a changed session is reset on this server."""
    with ConnectionPool(size=1, maxsize=1, **where) as pool:
        with pool.get_connection() as connection:
            connection.cursor().execute("SET @pymysqlpool_check = 1")
            number = _session_number(connection)
            began = perf_counter()
        took = (perf_counter() - began) * 1e3
        with pool.get_connection() as connection:
            kept = _session_number(connection) == number
        if kept:
            return f"a session that was changed is reset in {took:.2f} ms when it is given back, and kept"
        discarded = ", ".join(pool.stats().discarded) or "unknown"
        return f"a session that was changed is replaced by a new one ({discarded})"


def _room(facts: dict[str, str]) -> str:
    """Report what pools may ask for, and what there is."""
    free = max(int(facts["max_connections"]) - int(facts["Threads_connected"]) + 1, 0)  # this one ends
    return (
        f"maxsize={DEFAULT_MAXSIZE}, the default, allows so many connections in each process; {free} are free now, "
        f"enough for {free // DEFAULT_MAXSIZE} such processes"
    )


def _session_number(connection: Any) -> int:
    return int(connection.thread_id())


def _advice(facts: dict[str, str], ready: bool, encrypted: str, where: dict[str, Any], grants: str) -> Iterator[str]:
    if not ready:
        yield "the node does no work at this moment: look at its cluster"
    if int(facts["wait_timeout"]) < _SHORT_WAIT:
        yield f"wait_timeout={facts['wait_timeout']} s closes idle connections often: set con_lifetime below it"
    if int(facts["Threads_connected"]) * 10 > int(facts["max_connections"]) * 9:
        yield "more than nine tenths of max_connections are in use"
    if not encrypted and not where.get("unix_socket") and where.get("host") not in _THIS_MACHINE:
        yield "the password and the rows go over the network in the clear: use ssl_ca="
    if facts.get("session_track_state_change") is None:
        yield "the server cannot report session changes: every session that may have been touched is reset"
    if "ALL PRIVILEGES ON *.*" in grants or " SUPER" in grants:
        yield "the account may do anything on the server: give the application one of its own"
