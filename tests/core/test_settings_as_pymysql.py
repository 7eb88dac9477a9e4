"""Every argument of `pymysql.connect()`, with fitting and unfitting values, against PyMySQL itself on a real server.

What the pool refuses, it refuses by name when it is made; what it accepts does at the first borrow what PyMySQL does.
"""

from __future__ import annotations

import ssl
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.converters import conversions
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

from pymysqlpool import ConnectionPool, SettingsError, settings
from pymysqlpool._util import arguments
from pymysqlpool.devserver import DevServer

from .test_settings import ALIASES, NONSENSE

NO_FILE = str(Path(__file__).parent / "no_such_file")
NO_CERTIFICATE = __file__

MORE: dict[str, list[Any]] = {
    "auth_plugin_map": [{"mysql_native_password": object}, {"no_such_plugin": None}],
    "autocommit": ["no", "ON", [], [0]],
    "bind_address": ["127.0.0.1", "localhost"],
    "charset": ["UTF8MB4", "utf8", "latin1", "utf8mb3", "utf16", "binary"],
    "client_flag": [CLIENT.FOUND_ROWS, CLIENT.MULTI_STATEMENTS, CLIENT.LOCAL_FILES, CLIENT.COMPRESS, 2**31 - 1],
    "collation": ["utf8mb4_bin", "latin1_bin", "no_such_bin"],
    "connect_timeout": [5.5, 31536000, 31536001],
    "conv": [
        conversions,
        types.MappingProxyType(conversions),
        {**conversions, 3: None},
        {**conversions, 3: 5},
        {**conversions, bytes: "x"},
        {str: 5},
        {bool: lambda value, encoders: "1"},
    ],
    "cursorclass": [Cursor, SSCursor, SSDictCursor, object, dict, lambda connection: DictCursor(connection)],
    "database": [b"test"],
    "db": [b"test"],
    "host": ["localhost", "::1", b"127.0.0.1"],
    "init_command": ["SELECT 1", "SET @a = 1;", "-- x", "SELECT ';'", "   ", ";", "\n", b" ", "SET @a = 1; SET @b = 2"],
    "max_allowed_packet": [1024, 2**40],
    "port": [3306.0, "3306", 65535, 65537],
    "program_name": ["x" * 200],
    "read_default_file": [__file__, NO_FILE, "~/no_such_file", str(Path(__file__).parent)],
    "read_default_group": ["client", "no_such_group"],
    "read_timeout": [5.5, "3", -0.5],
    "server_public_key": [b"-----BEGIN PUBLIC KEY-----", "x"],
    "sql_mode": ["ANSI", "STRICT_TRANS_TABLES,NO_ZERO_DATE", "'", "no_such_mode"],
    "ssl": [
        {"check_hostname": False},
        {"check_hostname": True},
        {"verify_mode": "none"},
        {"verify_mode": "perhaps"},
        {"verify_mode": 1},
        {"cipher": "no-such-cipher"},
        {"cipher": 5},
        {"ca": 5},
        {"ca": NO_FILE},
        {"ca": NO_CERTIFICATE},
        {"cert": NO_CERTIFICATE},
        {"key": NO_CERTIFICATE},
        {"capath": NO_FILE},
        {"any": "key"},
    ],
    "ssl_ca": [NO_FILE, NO_CERTIFICATE],
    "ssl_cert": [NO_FILE, NO_CERTIFICATE],
    "ssl_key": [NO_FILE, NO_CERTIFICATE],
    "ssl_verify_cert": ["none", "no", "Required", "perhaps"],
    "unix_socket": [NO_FILE, b"x"],
    "user": [b"root"],
}

TEXT: set[type] = {str}
SWITCH: set[type] = {bool}
SECONDS: set[type] = {int, float}
# What has a meaning: of these types, what PyMySQL accepts must be accepted. It takes much else by its truth, or not at
# all, without a word: `ssl_disabled="no"` switches TLS off, `charset=[]` is the default. That is refused.
MEANT: dict[str, set[type]] = {
    "auth_plugin_map": {dict},
    "bind_address": TEXT,
    "binary_prefix": {*map(type, NONSENSE)},
    "charset": TEXT,
    "client_flag": {int},
    "collation": TEXT,
    "compress": {type(None)},
    "connect_timeout": SECONDS,
    "conv": {dict, types.MappingProxyType},
    "cursorclass": {type, types.FunctionType},
    "database": {str, bytes},
    "host": TEXT,
    "init_command": {str, bytes},
    "local_infile": SWITCH,
    "max_allowed_packet": {int},
    "named_pipe": {type(None)},
    "password": {str, bytes, bytearray},
    "port": {int},
    "program_name": TEXT,
    "read_default_file": {str, bytes},
    "read_default_group": TEXT,
    "read_timeout": SECONDS,
    "server_public_key": {bytes},
    "sql_mode": TEXT,
    "ssl": {dict, ssl.SSLContext},
    "ssl_ca": TEXT,
    "ssl_cert": TEXT,
    "ssl_disabled": SWITCH,
    "ssl_key": set(),  # PyMySQL looks at no key without an `ssl_cert`, be it there or not
    "ssl_key_password": {str, bytes},
    "ssl_verify_cert": {bool},
    "ssl_verify_identity": SWITCH,
    "unix_socket": {str, bytes},
    "use_unicode": SWITCH,
    "user": {str, bytes},
    "write_timeout": SECONDS,
}
# Of these types all the same: PyMySQL does not refuse them, and they do harm later, or nothing.
REFUSED: list[tuple[str, Any]] = [
    ("auth_plugin_map", {"a": 1}),  # called where the server asks for this plugin
    ("client_flag", CLIENT.COMPRESS),  # PyMySQL cannot read the reply, and waits for it
    ("client_flag", 2**31 - 1),
    ("client_flag", -1),
    ("client_flag", -(10**30)),
    ("conv", {**conversions, 3: 5}),  # called for a column of this type
    ("conv", {**conversions, bytes: "x"}),
    ("conv", {str: 5}),
    ("conv", {"a": 1}),
    ("max_allowed_packet", -1),  # no byte of a file could be sent
    ("max_allowed_packet", -(10**30)),
    ("read_default_group", "\0"),  # no section of a file is called so
    ("read_default_group", "\ud800"),
    ("ssl", {"verify_mode": "perhaps"}),  # no certificate is verified then
    ("ssl", {"verify_mode": 1}),
]
MAY_BE_FUNCTIONS = ("host", "port", "user", "password", "passwd")  # here, not in PyMySQL
UNREACHABLE = (pymysql.constants.CR.CR_CONN_HOST_ERROR, pymysql.constants.CR.CR_SERVER_LOST)
OPTIONS = sorted(arguments.NAMES - {"defer_connect"})


def values_of(option: str) -> list[Any]:
    values = [*NONSENSE, *MORE.get(option, [])]
    if option == "host":
        values.remove("3")  # an address that answers nothing
    return values


def says(error: Exception) -> str | int:
    """The number of an error of the server, or of the way to it; else the name of its class."""
    number = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else None
    return number if isinstance(number, int) else type(error).__name__


def outcome(connect: Callable[[], Any]) -> str | int:
    try:
        connection = connect()
    except Exception as error:  # noqa: BLE001 - what it is, is the answer
        return says(error)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s", ("x",))
            assert len(cursor.fetchall()) == 1
    except Exception as error:  # noqa: BLE001 - what it is, is the answer
        return says(error)
    finally:
        connection.close()
    return "works"


def pool_or_refusal(given: dict[str, Any]) -> tuple[ConnectionPool | None, str]:
    try:
        return ConnectionPool(**{"maxsize": 1, **given}), ""
    except SettingsError as error:
        return None, str(error)


def is_meant(option: str, value: Any) -> bool:
    name = ALIASES.get(option, option)
    if name.startswith("ssl") and pymysql.VERSION < (1, 2):
        return False  # which goes on without TLS, and looks at no file, where the server has none
    return name == "autocommit" or (any(type(value) is kind for kind in MEANT[name]) and (option, value) not in REFUSED)


@pytest.fixture(autouse=True)
def no_time_for_the_certificates_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda self, purpose=None: None)


pytestmark = [
    pytest.mark.filterwarnings("ignore:'(db|passwd)' is deprecated"),
    # PyMySQL leaves a socket behind when it fails with another error than its own.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_value_is_refused_by_name_or_does_what_it_does_in_pymysql(option: str, server: DevServer) -> None:
    base = {name: value for name, value in server.connect_args.items() if name != ALIASES.get(option)}
    base["read_timeout"] = 20
    if not option.startswith("ssl"):
        base["ssl_disabled"] = True
    for value in values_of(option):
        if option in MAY_BE_FUNCTIONS and callable(value):
            continue
        given = {**base, option: value}
        shown = f"{option}={value!r}"[:200]
        pool, refusal = pool_or_refusal(given)
        if pool is None:
            assert option in refusal or ALIASES.get(option, option) in refusal, shown
            if is_meant(option, value):
                assert outcome(partial(pymysql.connect, **given)) != "works", f"{shown} works in PyMySQL; {refusal}"
            continue
        stock = outcome(partial(pymysql.connect, **given))
        unreachable = stock in UNREACHABLE
        with pool:
            ours = outcome(partial(pool.get_connection, timeout=0.05 if unreachable else 30))
        if unreachable:
            assert isinstance(ours, int), f"{shown}: {ours}"
        else:
            assert ours == stock or (ours == "works" and isinstance(stock, int)), f"{shown}: there {stock}, here {ours}"


@pytest.mark.parametrize("option", MAY_BE_FUNCTIONS)
def test_what_a_function_returns_is_refused_as_the_value_itself_would_be(option: str, server: DevServer) -> None:
    base = {name: value for name, value in server.connect_args.items() if name != ALIASES.get(option)}
    for value in NONSENSE:
        if not callable(value):
            try:
                ConnectionPool(**{**base, option: value})
            except SettingsError:
                with ConnectionPool(**{**base, option: lambda value=value: value}) as pool:
                    with pytest.raises(SettingsError, match=f"the function for {option} returned what cannot be used"):
                        pool.get_connection(timeout=30)
                    assert pool.stats().in_use == 0


@pytest.mark.parametrize("option", sorted(settings.OPTION_NAMES))
def test_an_option_of_the_pool_that_is_accepted_does_not_fail_a_borrow(option: str, server: DevServer) -> None:
    for value in NONSENSE:
        if callable(value) or (option == "timeout" and value == 0):
            continue
        pool, _ = pool_or_refusal({"timeout": 30, **server.connect_args, option: value})
        if pool is None:
            continue
        with pool:
            for _ in range(2):
                assert outcome(pool.get_connection) == "works", repr(value)
            pool.get_connection().close()
            assert repr(pool).encode()


@pytest.mark.parametrize("value", [int, str, len, dict, object, abs])
@pytest.mark.parametrize(
    "option", ["on_connect", "on_checkout", "on_checkin", "on_discard", "reuse_policy", "password"]
)
def test_functions_and_types_of_python_itself_are_no_hooks(option: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=option):
        ConnectionPool(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("on_discard", print), ("on_discard", [].append), ("on_checkout", print)]
)
def test_functions_of_python_that_may_be_meant_are_hooks(option: str, value: Any) -> None:
    ConnectionPool(**{option: value})
