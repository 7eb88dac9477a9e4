"""The examples of docs/django.md, run as they are printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, models
from django.db.utils import ConnectionHandler
from django.utils.module_loading import import_string

from pymysqlpool.devserver import DevServer
from pymysqlpool_django import pools
from pymysqlpool_django.carried import CarryCommitsMiddleware
from tests.support import wait_until

from .conftest import ROOT, RunSite, database

TEXT = (ROOT / "docs" / "django.md").read_text()


def example(containing: str) -> dict[str, Any]:
    """What the one example with that text defines."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if containing in code]
    names: dict[str, Any] = {}
    exec(compile(found, "docs/django.md", "exec"), names)
    return names


def test_no_example_is_without_a_test() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests/django").glob("test_*.py"))
    used = [text for _, text in re.findall(r"""example\((["'])(.+?)\1\)""", tests)]
    shown = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(shown) >= 6
    assert [code for code in shown if not any(text in code for text in used)] == []


@pytest.fixture
def default(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The alias `default` of a site."""
    handler = ConnectionHandler({"default": database(server)})
    before = getattr(connections._connections, "default", None)
    monkeypatch.setitem(connections.settings, "default", handler.settings["default"])
    if before is not None:
        del connections["default"]
    yield
    if hasattr(connections._connections, "default"):
        del connections["default"]
    pools.close("default")
    if before is not None:
        connections["default"] = before


def test_the_settings_are_settings(run_site: RunSite, server: DevServer) -> None:
    names = example('# or "pymysqlpool_django.gis"')
    shown = names["DATABASES"]["default"]
    login = {"USER": "root", "PASSWORD": server.connect_args["password"], "NAME": "test"}
    shown = {**shown, "HOST": server.host, "PORT": server.port, **login}
    code = """
def main():
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    call_command("check", database=["default"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        report([cursor.fetchone()[0], connection.pool.stats().in_use, Client().get("/").status_code])
"""
    apps = [name for name in names["INSTALLED_APPS"] if name is not ...]
    middleware = [name for name in names["MIDDLEWARE"] if name is not ...]
    told = run_site(code, {"default": shown}, INSTALLED_APPS=apps, MIDDLEWARE=middleware)
    assert told == [7, 1, 404]


def test_the_middleware_that_carries_commits_is_one_and_comes_first() -> None:
    first, *_ = example("CarryCommitsMiddleware")["MIDDLEWARE"]
    assert isinstance(import_string(first), type)


def test_tenants_come_and_go(default: None, alias: str, admin: Any) -> None:
    names = example("def add_tenant")
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {alias}")
    names["add_tenant"](alias, alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT DATABASE(), CONNECTION_ID()")
        name, session = cursor.fetchone()
    assert name == alias
    connections[alias].close()
    names["remove_tenant"](alias)
    with admin.cursor() as cursor:
        look = f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"
        wait_until(lambda: not cursor.execute(look), "the session is gone")
        cursor.execute(f"DROP DATABASE {alias}")
    assert alias not in pools.stats()
    assert alias not in connections.databases


def test_background_work_gives_its_connection_back(default: None) -> None:
    names = example("def in_background")
    done: list[int] = []

    def work(number: int) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT %s", [number])
            done.append(cursor.fetchone()[0])

    names["in_background"](work, 7).join()
    assert done == [7]
    (numbers,) = pools.stats()["default"]
    assert (numbers.borrowed, numbers.in_use, numbers.leaked) == (1, 0, 0)


def test_a_transfer_is_all_or_nothing(default: None, table: str, admin: Any) -> None:
    names = example("def transfer")

    class Account(models.Model):
        balance = models.IntegerField()

        class Meta:
            app_label = "documents"
            db_table = table

    with admin.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ADD COLUMN balance INT NOT NULL DEFAULT 100")
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('a'), ('b')")
    names["transfer"](Account, 1, 2, 30)
    assert list(Account.objects.order_by("pk").values_list("balance", flat=True)) == [70, 130]


def test_the_middleware_that_carries_commits_is_the_one_that_is_named() -> None:
    names = example("CarryCommitsMiddleware")
    assert import_string(names["MIDDLEWARE"][0]) is CarryCommitsMiddleware
