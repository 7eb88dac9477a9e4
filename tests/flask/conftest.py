"""Flask applications on the session's server, with a small table, and nothing left lent at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pymysqlpool import ConnectionPool
from pymysqlpool_flask import PyMySQLPool


@dataclass
class Site:
    """An application with its extension."""

    app: Flask
    db: PyMySQLPool

    @property
    def pool(self) -> ConnectionPool:
        return self.db.get_pool(app=self.app)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    @property
    def in_use(self) -> int:
        return self.pool.stats().in_use


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(connect_args: dict[str, Any]) -> Iterator[MakeSite]:
    """Make applications; `options` go into PYMYSQLPOOL, `config` into app.config."""
    sites: list[Site] = []

    def make(config: dict[str, Any] | None = None, on_g: str | None = "db", **options: Any) -> Site:
        app = Flask(__name__)
        app.config["PYMYSQLPOOL"] = {**connect_args, "size": 2, "maxsize": 2, "timeout": 2, **options}
        app.config.update(config or {})
        sites.append(Site(app, PyMySQLPool(app, name=on_g)))
        return sites[-1]

    yield make
    for site in sites:
        left = site.in_use
        site.pool.close(timeout=0)
        assert left == 0, "a lease was left behind"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def table(admin: Any) -> Iterator[Callable[[], list[int]]]:
    """An empty table `item (id)`; returns what is committed in it."""
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")
        cursor.execute("CREATE TABLE item (id INT PRIMARY KEY) ENGINE=InnoDB")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT id FROM item ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")


def ask(connection: Any, sql: str, *values: Any) -> Any:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
        return row[0] if row else None
