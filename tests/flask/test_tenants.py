"""Databases that come and go while the application runs."""

from __future__ import annotations

from typing import Any

import pytest

from pymysqlpool import PoolClosed
from pymysqlpool_flask import ConfigError

from .conftest import Site, ask


def test_a_database_added_at_run_time_is_used_like_another(site: Site, connect_args: dict[str, Any]) -> None:
    site.db.add_bind("acme", {**connect_args, "maxsize": 1}, app=site.app)
    site.app.add_url_rule("/", "index", lambda: str(ask(site.db.get_connection("acme"), "SELECT 7")))
    assert site.client.get("/").data == b"7"
    acme = site.db.get_pool("acme", app=site.app)
    assert (acme.stats().in_use, acme.stats().created) == (0, 1)
    site.db.remove_bind("acme", app=site.app)
    with pytest.raises(PoolClosed):
        acme.get_connection()
    with pytest.raises(KeyError, match="acme"):
        site.db.get_pool("acme", app=site.app)
    site.db.add_bind("acme", connect_args, app=site.app)
    assert site.client.get("/").data == b"7"
    site.db.remove_bind("acme", app=site.app)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("acme", {"hots": "db"}, r"PYMYSQLPOOL_BINDS\[acme\].*did you mean 'host'"),
        ("acme", {"charset": "utf-8"}, "utf8mb4"),
        ("acme", {"g_name": "acme"}, "known at the start"),
        ("acme", {"transaction": "request"}, "unknown option 'transaction'"),
        ("acme", "mysql://db", "must be a dict"),
    ],
)
def test_what_cannot_be_added_is_refused_by_name(site: Site, name: str, options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        site.db.add_bind(name, options, app=site.app)


def test_a_name_is_added_and_removed_once(site: Site, connect_args: dict[str, Any]) -> None:
    site.db.add_bind("acme", connect_args, app=site.app)
    with pytest.raises(ConfigError, match="already"):
        site.db.add_bind("acme", connect_args, app=site.app)
    site.db.remove_bind("acme", app=site.app)
    with pytest.raises(KeyError, match="acme"):
        site.db.remove_bind("acme", app=site.app)
