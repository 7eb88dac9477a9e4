"""The fast reader and PyMySQL's own, on the same server: every column type, over TCP, a unix socket and TLS.

What a real server sends, and in the segments in which it comes; `test_reader.py` has what none would send.
"""

from __future__ import annotations

import datetime
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

from benchmarks.bench import write_certificate
from pymysqlpool.connection import Connection
from pymysqlpool.devserver import DevServer

ROWS = 25


def whole(random: Random, bits: int) -> str:
    return str(random.choice((0, 1, -1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, random.getrandbits(bits - 1))))


def unsigned(random: Random, bits: int) -> str:
    return str(random.choice((0, 1, 2**bits - 1, random.getrandbits(bits))))


def text(random: Random) -> str:
    length = random.choice((0, 1, 20, 60))
    value = "".join(random.choice("aäß'\"\\\0\n %日本語ｱ~€") for _ in range(length))
    return f"_utf8mb4 x'{value.encode().hex()}'"


def blob(random: Random, most: int) -> str:
    return "0x" + random.randbytes(random.choice((1, 3, most))).hex()


TYPES: dict[str, Any] = {
    "TINYINT": lambda random: whole(random, 8),
    "TINYINT UNSIGNED": lambda random: unsigned(random, 8),
    "BOOL": lambda random: random.choice(("TRUE", "FALSE")),
    "SMALLINT": lambda random: whole(random, 16),
    "MEDIUMINT": lambda random: whole(random, 24),
    "INT": lambda random: whole(random, 32),
    "INT(5) ZEROFILL": lambda random: unsigned(random, 16),
    "BIGINT": lambda random: whole(random, 64),
    "BIGINT UNSIGNED": lambda random: unsigned(random, 64),
    "FLOAT": lambda random: repr(random.uniform(-1e6, 1e6)),
    "DOUBLE": lambda random: repr(random.choice((0.0, 1e308, -5e-324, random.random()))),
    "DECIMAL(30,10)": lambda random: f"{random.randrange(-(10**18), 10**18)}.{random.randrange(10**9)}",
    "DATE": lambda random: random.choice(("'2024-02-29'", "'0000-00-00'", "'9999-12-31'")),
    "DATETIME": lambda random: random.choice(("'2024-02-29 23:59:59'", "'0000-00-00 00:00:00'")),
    "DATETIME(6)": lambda random: f"'2024-02-29 01:02:03.{random.randrange(10**6):06}'",
    "TIMESTAMP NULL": lambda random: "'2001-09-09 01:46:40'",
    "TIME": lambda random: random.choice(("'-838:59:59'", "'00:00:00'", "'12:34:56'")),
    "TIME(3)": lambda random: f"'-01:02:03.{random.randrange(1000):03}'",
    "YEAR": lambda random: random.choice(("1901", "2155", "0")),
    "CHAR(60)": text,
    "VARCHAR(60)": text,
    "VARCHAR(60) CHARACTER SET latin1": text,
    "VARCHAR(60) CHARACTER SET cp932": text,
    "VARCHAR(60) CHARACTER SET ucs2": text,
    "VARCHAR(60) COLLATE utf8mb4_bin": text,
    "TINYTEXT": text,
    "TEXT": text,
    "MEDIUMTEXT": text,
    "LONGTEXT": lambda random: f"REPEAT({text(random)}, {random.choice((1, 10, 2000))})",
    "BINARY(4)": lambda random: blob(random, 4),
    "VARBINARY(300)": lambda random: blob(random, 300),
    "TINYBLOB": lambda random: blob(random, 255),
    "BLOB": lambda random: blob(random, 300),
    "MEDIUMBLOB": lambda random: blob(random, 70_000),
    "LONGBLOB": lambda random: blob(random, 3),
    "ENUM('x','ä','')": lambda random: random.choice(("'x'", "'ä'", "''")),
    "SET('x','y','z')": lambda random: random.choice(("''", "'x,z'")),
    "BIT(1)": lambda random: random.choice(("0", "1")),
    "BIT(64)": lambda random: unsigned(random, 64),
    "JSON": lambda random: """'{"a": [1, "ä", null]}'""",
    "POINT": lambda random: f"ST_GeomFromText('POINT({random.randrange(99)} 7)')",
    "GEOMETRY": lambda random: "ST_GeomFromText('LINESTRING(0 0, 1 1)')",
}
COLUMNS = ", ".join(f"c{number} {kind}" for number, kind in enumerate(TYPES))


@dataclass
class Host:
    server: DevServer
    tls: ssl.SSLContext

    def arguments(self, transport: str) -> dict[str, Any]:
        if transport == "tls":
            return {**self.server.connect_args, "ssl": self.tls}
        arguments = self.server.socket_args if transport == "unix" else self.server.connect_args
        return {**arguments, "ssl_disabled": True}


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    options = [f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={certificate}", "--sql-mode="]
    options += ["--max-allowed-packet=64M"]
    with DevServer(binary=request.config.getoption("--server"), options=options) as server:
        context = ssl.create_default_context(cafile=str(certificate))
        with pymysql.connect(**server.socket_args, ssl_disabled=True, autocommit=True) as admin:
            fill(admin)
        yield Host(server, context)


def fill(admin: Any) -> None:
    random = Random(8)
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE TABLE every_type ({COLUMNS})")
        for _ in range(ROWS):
            values = [make(random) if random.random() < 0.85 else "NULL" for make in TYPES.values()]
            cursor.execute(f"INSERT INTO every_type VALUES ({', '.join(values)})")
        cursor.execute(f"INSERT INTO every_type VALUES ({', '.join(['NULL'] * len(TYPES))})")
        cursor.execute(
            "CREATE PROCEDURE several(IN n INT) BEGIN SELECT n, 'one'; SELECT c0, c20 FROM every_type; DO 1; END"
        )
        cursor.execute("CREATE PROCEDURE fails(IN n INT) BEGIN SELECT n; SIGNAL SQLSTATE '45000'; END")


STATEMENTS = (
    "SELECT * FROM every_type",
    "SELECT * FROM every_type WHERE c0 > 1000",
    "SELECT c5, c5 AS c5, every_type.c20, NULL, 1.5, 'ä', x'00ff', NOW() > 0 FROM every_type",
    "SELECT REPEAT('x', 250), REPEAT('x', 251), REPEAT('x', 65535), REPEAT('x', 65536), REPEAT('x', 70000)",
    "SELECT a.c0, b.* FROM every_type a LEFT JOIN every_type b ON a.c0 = b.c1",
    "CREATE TABLE written (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(5))",
    "INSERT INTO written (v) VALUES ('a'), ('much too long')",
    "SHOW WARNINGS",
    "INSERT INTO written VALUES (1, 'again')",
    "UPDATE written SET v = 'b'",
    "UPDATE written SET v = 'b'",
    "SELECT 1 / 0, CAST('12x' AS SIGNED)",
    "SELECT 1; INSERT INTO written (v) VALUES ('c'); SELECT * FROM written; nonsense",
    "SELECT nothing FROM nowhere",
    "SELECT CAST('7' AS JSON)",
    "EXPLAIN SELECT * FROM written",
    "DESCRIBE every_type",
    "CALL several(5)",
    "CALL fails(5)",
    "DO 1",
    "DELETE FROM written",
)


def told(
    kind: type[Any], arguments: dict[str, Any], cursors: list[type[Cursor]], statements: Sequence[str]
) -> list[str]:
    """Everything that a caller can see of the answers."""
    seen = []
    connection = kind(**arguments)
    for cursor_type, statement in zip(cursors, statements, strict=True):
        with connection.cursor(cursor_type) as cursor:
            try:
                more: Any = cursor.execute(statement)
                while more is not None:
                    rows = cursor.fetchall()
                    seen.append(f"{statement} {more} {list(rows)!r} {facts(connection, cursor)}")
                    more = cursor.nextset()
            except Exception as error:  # noqa: BLE001 - compared
                seen.append(f"{statement} {error!r} {getattr(error, 'sqlstate', None)} {facts(connection, cursor)}")
                if not isinstance(error, pymysql.err.MySQLError) and not isinstance(cursor, SSCursor):
                    # PyMySQL's is out of step now.
                    connection._force_close()
                    connection = kind(**arguments)
    connection.close()
    return seen


def facts(connection: Any, cursor: Any) -> str:
    result = connection._result
    is_ok = result is not None and result.field_count == 0
    return repr(
        (
            cursor.rowcount, cursor.description, cursor.lastrowid, cursor.warning_count, cursor.rownumber,
            connection.insert_id(), connection.affected_rows(), connection.open,
            connection.server_status if is_ok else None,
            [vars(field) for field in getattr(result, "fields", ())],
        )
    )  # fmt: skip


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"charset": "latin1"},
    {"charset": "cp932"},
    {"charset": "gbk", "use_unicode": False},
    {"conv": {}, "autocommit": None},
    {"conv": {**conversions, FIELD_TYPE.NEWDECIMAL: float, FIELD_TYPE.LONG: str, FIELD_TYPE.TIME: len}},
    {"autocommit": True, "client_flag": CLIENT.FOUND_ROWS},
)


TRANSPORTS = ("tcp", "unix", "tls")
CURSORS = (Cursor, DictCursor, SSCursor, SSDictCursor)
TURNS = range(4 if "PYMYSQLPOOL_FUZZ" in os.environ else 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "default")
def test_every_column_type_with_every_option(host: Host, transport: str, options: dict[str, Any]) -> None:
    options = {**options, "client_flag": options.get("client_flag", 0) | CLIENT.MULTI_STATEMENTS}
    arguments = {**host.arguments(transport), **options}
    for turn in TURNS:
        first = turn + TRANSPORTS.index(transport)
        cursors = [CURSORS[(first + number) % 4] for number in range(len(STATEMENTS))]
        ours, theirs = both(host, arguments, cursors, STATEMENTS)
        assert ours == theirs


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("cursor", CURSORS)
def test_results_of_more_than_16_mb(host: Host, transport: str, cursor: type[Cursor]) -> None:
    statements = ("SELECT 'a', REPEAT('x', 17000000), 7 UNION ALL SELECT 'b', REPEAT('ä', 20), 8", "SELECT 1")
    with Connection(**host.arguments(transport)) as ours, pymysql.connect(**host.arguments(transport)) as theirs:
        for statement in statements:
            rows = []
            for connection in (ours, theirs):
                with connection.cursor(cursor) as cur:
                    cur.execute(statement)
                    rows.append(list(cur.fetchall()))
            assert rows[0] == rows[1]


ARGUMENTS: tuple[Any, ...] = (
    None,
    True,
    -(2**63),
    1.5,
    Decimal("12.30"),
    datetime.datetime(2024, 2, 29, 23, 59, 59, 123456),
    datetime.timedelta(hours=-30, seconds=1),
    "",
    "aäß'\"\\\0\n %日本語ｱ~€",
    "a lone surrogate: \udcff",
    bytes(range(256)),
    bytearray(range(256)),
    "日" * 400_000,
    object(),
)


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "cp932"])
@pytest.mark.parametrize("binary_prefix", [False, True])
def test_every_kind_of_argument_is_sent_as_pymysql_sends_it(host: Host, charset: str, binary_prefix: bool) -> None:
    """Bytes among the arguments are no text of any character set."""
    options = {"charset": charset, "binary_prefix": binary_prefix}

    def arrived(kind: type[Any]) -> list[str]:
        answers = []
        with kind(**host.arguments("unix"), **options) as connection:
            for argument in ARGUMENTS:
                with connection.cursor() as cursor:
                    try:
                        cursor.execute("SELECT HEX(%s) AS hex, LENGTH(%s) AS length", (argument, argument))
                        answers.append(repr(cursor.fetchall()))
                    except Exception as error:  # noqa: BLE001 - compared
                        answers.append(re.sub("0x[0-9a-f]+", "", f"{type(error).__name__}: {error}"))
            for statement in (
                b"SELECT HEX('\xff\xe4') AS hex",
                bytearray(b"SELECT 7"),
                "SELECT HEX('\udcff\udce4') AS hex",
            ):
                try:
                    connection.query(statement)
                    answers.append(repr(connection._result.rows))
                except UnicodeEncodeError as error:  # since PyMySQL 1.2.1
                    answers.append(str(error))
        return answers

    ours, theirs = arrived(Connection), arrived(pymysql.connections.Connection)
    assert ours == theirs
    assert bytes(range(256)).hex().upper() in ours[ARGUMENTS.index(bytes(range(256)))]


def both(
    host: Host, arguments: dict[str, Any], cursors: list[type[Cursor]], statements: Sequence[str]
) -> list[list[str]]:
    """What ours and PyMySQL's connection tell, beginning with the same tables."""
    answers = []
    for kind in (Connection, pymysql.connections.Connection):
        with pymysql.connect(**host.arguments("unix"), autocommit=True) as admin:
            admin.query("DROP TABLE IF EXISTS written")
        answers.append(told(kind, arguments, cursors, statements))
    return answers
