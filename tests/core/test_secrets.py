"""A password does not print (Invariant 16): no frame of this package holds one in the clear while something fails."""

from __future__ import annotations

import asyncio
import copy
import pickle
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import pymysqlpool
from pymysqlpool import ConnectionPool, aiomysql
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.secrets import Secret, conceal, reveal

PASSWORD = "-".join(["kelp", "4711", "tide"])
OWN = str(Path(pymysqlpool.__file__).parent.parent / "pymysqlpool")  # and what begins so: the adapters
MASKED = {"password", "passwd", "secret"}  # local variables that tools mask by their names


def texts(value: Any, depth: int = 6) -> list[str]:
    """What a tool shows that walks into containers, as sentry-sdk does, or prints the `repr`."""
    if depth == 0 or isinstance(value, str | bytes):
        return [repr(value)]
    if isinstance(value, Mapping):
        return [text for item in (*value, *value.values()) for text in texts(item, depth - 1)] + [repr(value)]
    if isinstance(value, list | tuple | set | frozenset):
        return [text for item in value for text in texts(item, depth - 1)]
    try:
        return [repr(value)]
    except Exception:  # noqa: BLE001 - of an object that is not made yet
        return []


def open_secrets(call: Callable[[], Any]) -> set[str]:
    """The local variables of this package's frames that show the password, where `call` fails."""
    found: set[str] = set()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any
        call()
    todo: list[BaseException | None] = [raised.value]
    seen: set[int] = set()
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if PASSWORD in repr(error) or PASSWORD in str(error):
            found.add(f"{type(error).__name__}")
        todo += [error.__cause__, error.__context__]
        step = error.__traceback__
        while step is not None:
            code = step.tb_frame.f_code
            if code.co_filename.startswith(OWN):
                for name, value in step.tb_frame.f_locals.items():
                    if name not in MASKED and any(PASSWORD in text for text in texts(value)):
                        found.add(f"{Path(code.co_filename).name}:{code.co_name}: {name}")
            step = step.tb_next
    return found


REFUSED: dict[str, dict[str, Any]] = {
    "login refused": {"password": PASSWORD},
    "bytes": {"password": PASSWORD.encode()},
    "its old name": {"passwd": PASSWORD},
    "a function": {"password": lambda: PASSWORD},
    "a secret": {"password": Secret(PASSWORD)},
    "out of reach": {"password": PASSWORD, "port": 1, "timeout": 0.1},
    "unknown option": {"password": PASSWORD, "sise": 3},
    "out of bounds": {"password": PASSWORD, "size": -1},
    "refused by PyMySQL": {"password": PASSWORD, "charset": "klingon"},
    "two names": {"password": PASSWORD, "passwd": PASSWORD},
    "not latin1": {"password": PASSWORD + "€"},
    "no text": {"password": [PASSWORD]},
    "at once": {"password": PASSWORD, "pre_create_num": 1},
    "a key's": {
        "password": "x",
        "ssl": {"cert": __file__, "key": __file__, "password": PASSWORD},
        "ssl_disabled": False,
    },
    "a key's, by its own name": {"ssl_cert": __file__, "ssl_key_password": PASSWORD, "ssl_disabled": False},
    "misspelt": {"pasword": PASSWORD},
    "a key's, misspelt": {"ssl": {"ca": "/nowhere.pem", "key_passphrase": PASSWORD}, "ssl_disabled": False},
    "in a URL as the host": {"host": f"mysql://nobody_here:{PASSWORD}@localhost/shop"},
    "TLS": {"password": PASSWORD, "ssl": ssl.create_default_context(), "ssl_disabled": False, "timeout": 0.5},
}


@pytest.mark.parametrize("way", REFUSED)
def test_no_frame_shows_the_password_when_a_pool_fails(connect_args: dict[str, Any], way: str) -> None:
    options = {**connect_args, "user": "nobody_here", "password": None, **REFUSED[way]}
    assert open_secrets(lambda: ConnectionPool(**options).get_connection()) == set()
    assert open_secrets(lambda: AsyncConnectionPool(**options).pool.get_connection()) == set()


def test_no_frame_of_the_adapters_shows_it_either(connect_args: dict[str, Any]) -> None:
    flask = pytest.importorskip("flask")
    from pymysqlpool_flask import PyMySQLPool

    def use(**options: Any) -> None:
        app = flask.Flask("application")
        app.config["PYMYSQLPOOL"] = {**connect_args, "user": "nobody_here", "password": PASSWORD, **options}
        database = PyMySQLPool(app)
        with app.app_context():
            database.pool.get_connection()

    assert open_secrets(use) == set()
    assert open_secrets(lambda: use(PASSWORD=PASSWORD)) == set()
    assert open_secrets(lambda: use(sise=3)) == set()
    assert open_secrets(lambda: use(timeout=-3)) == set()
    assert open_secrets(lambda: use(default={"password": PASSWORD})) == set()
    url = f"mysql://ann:{PASSWORD}@db1/shop"
    wrong = ("PYMYSQLPOOL", url), ("PYMYSQLPOOL", [url]), ("PYMYSQLPOOL_BINDS", url), ("PYMYSQLPOOL_BINDS", {"a": url})
    for key, value in wrong:
        app = flask.Flask("application")
        app.config[key] = value
        assert open_secrets(lambda app=app: PyMySQLPool(app)) == set()


def test_no_frame_of_djangos_backend_shows_it_either(connect_args: dict[str, Any]) -> None:
    """Django's own frames show it, as with PyMySQL alone."""
    pytest.importorskip("django")
    program = Path(__file__).parents[1] / "django" / "password_in_frames.py"
    arguments = [sys.executable, str(program), str(connect_args["port"])]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("way", REFUSED)
def test_no_frame_of_aiomysqls_names_shows_it(connect_args: dict[str, Any], way: str) -> None:
    options = {**connect_args, "user": "nobody_here", "password": None, **REFUSED[way]}
    options.setdefault("connect_timeout", 1)

    async def create() -> None:
        await aiomysql.create_pool(**{**options, "timeout": 1})

    async def connect() -> None:
        await aiomysql.connect(**{**options, "timeout": 1})

    assert open_secrets(lambda: asyncio.run(create())) == set()
    assert open_secrets(lambda: asyncio.run(connect())) == set()


@pytest.mark.parametrize("way", sorted(REFUSED.keys() - {"in a URL as the host"}))
def test_no_frame_of_a_cluster_shows_it(connect_args: dict[str, Any], way: str) -> None:
    options = {**connect_args, "user": "nobody_here", "password": None, "timeout": 1, **REFUSED[way]}
    hosts = [{"host": options.pop("host"), "port": options.pop("port")}]
    assert open_secrets(lambda: Cluster(hosts, **options).primary.get_connection()) == set()


@pytest.mark.parametrize(
    "hosts",
    [
        f"mysql://ann:{PASSWORD}@db1/shop",
        [f"mysql://ann:{PASSWORD}@db1/shop"],
        [{"host": f"mysql://ann:{PASSWORD}@db1/shop"}],
        ["db2", f"ann:{PASSWORD}@db1"],
    ],
)
def test_no_frame_shows_a_url_that_is_given_as_a_host(hosts: Any) -> None:
    assert open_secrets(lambda: Cluster(hosts)) == set()


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://ann:{PASSWORD}@db1/shop",
        f"mysql://ann:{PASSWORD}@db1:port/shop",
        f"mysql://ann:{PASSWORD}@db1/shop?sise=3",
        f"mysql://ann:{PASSWORD}@db1/shop?failback_after=x",
        f"mysql://ann:{PASSWORD}",
        f"mysql://ann:not/{PASSWORD}@db1/shop",
        f"mysql://ann:{PASSWORD}@[::1/shop",
        f"mysql://ann:{PASSWORD}\u2100@db1/shop",
        f"mysql:ann:a@{PASSWORD}@db1/shop",
        f"mysq://ann:a@{PASSWORD}@db1/shop",
        f"mysql://ann:{PASSWORD}@127.0.0.1:1/shop",
    ],
)
def test_no_frame_shows_the_password_of_a_url_that_fails(url: str) -> None:
    assert open_secrets(lambda: Cluster.from_url(url, timeout=0.2).primary.get_connection()) == set()


def test_a_secret_shows_its_value_on_request_only() -> None:
    secret = Secret(PASSWORD)
    for text in (repr(secret), str(secret), f"{secret}", repr([secret]), repr(vars(type(secret)))):
        assert PASSWORD not in text
    assert secret.reveal() == PASSWORD
    assert secret == Secret(PASSWORD) != Secret("another")
    assert hash(secret) == hash(copy.deepcopy(secret))
    assert pickle.loads(pickle.dumps(secret)) == secret
    assert not Secret("")
    arguments = {"user": "ann", "password": PASSWORD, "ssl": {"ca": "x", "password": "y"}, "port": 1}
    concealed = conceal(arguments)
    assert PASSWORD not in repr(concealed)
    assert conceal(concealed) == concealed
    assert reveal(concealed) == arguments


def test_a_pool_connects_with_a_secret(connect_args: dict[str, Any], admin: Any) -> None:
    with admin.cursor() as cursor:
        cursor.execute("drop user if exists keeper@'%'")
        cursor.execute(f"create user keeper@'%' identified by '{PASSWORD}'")
    options = {**connect_args, "user": "keeper", "database": None}
    for password in (PASSWORD, Secret(PASSWORD), lambda: PASSWORD, PASSWORD.encode()):
        with ConnectionPool(**{**options, "password": password}) as pool, pool.get_connection() as connection:
            assert connection.get_server_info()
    with admin.cursor() as cursor:
        cursor.execute("drop user keeper@'%'")
