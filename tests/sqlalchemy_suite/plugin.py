"""A pytest plugin that puts our pool under SQLAlchemy's engines in the place of QueuePool; `run.py` loads it.

`SQLALCHEMY_SUITE_SUBJECT`: `stock` (QueuePool), `lease` (the MySQL dialects' pool class is `LeasePool`).

With either, the tests of lost servers lose a real one: SQLAlchemy's fixture closes connections behind the back of
their pool, by a module of its own under the dialect. Here a proxy ends them, as a server does.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from tests.proxy import Proxy
from tests.support import wait_until

_proxies = ExitStack()


def pytest_configure() -> None:
    if os.environ["SQLALCHEMY_SUITE_SUBJECT"] == "lease":
        from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

        from pymysqlpool.sqlalchemy import LeasePool

        setattr(MySQLDialect_pymysql, "poolclass", LeasePool)  # noqa: B010 - its class declares none


def pytest_collection_finish() -> None:
    from sqlalchemy.testing import engines

    engines.reconnecting_engine = _reconnecting_engine


def pytest_unconfigure() -> None:
    _proxies.close()


def _reconnecting_engine(url: Any = None, options: Any = None) -> Any:
    """An engine whose server `test_shutdown` loses, and `test_restart` brings back."""
    from sqlalchemy.testing import config, engines

    url = url or config.db.url
    proxy = _proxies.enter_context(Proxy((url.host, url.port)))
    engine: Any = engines.testing_engine(url.set(port=proxy.port), options)

    def shut_down(stop: bool = False) -> None:
        proxy.refusing = stop
        proxy.cut()
        wait_until(lambda: not proxy.open, "all connections are closed")

    def restart() -> None:
        proxy.refusing = False

    engine.test_shutdown, engine.test_restart = shut_down, restart
    return engine
