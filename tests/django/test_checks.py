"""System checks, the command `poolstatus`, and the view (issue 6)."""

from __future__ import annotations

import io
import json
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import RequestFactory, override_settings
from django.urls import include, path

from pymysqlpool import metrics
from pymysqlpool.devserver import DevServer
from pymysqlpool_django import checks, views

from .conftest import Connect, RunSite, database


@pytest.fixture
def registered(connect: Connect, alias: str) -> Any:
    """A database that `connections` knows."""

    def make(*args: Any, **changes: Any) -> Any:
        wrapper = connect(*args, **changes)
        connections.settings[alias] = wrapper.settings_dict
        connections[alias] = wrapper
        return wrapper

    yield make
    connections.settings.pop(alias, None)
    if hasattr(connections._connections, alias):
        del connections[alias]


def login(request: Any) -> None:
    """Where visitors are sent that are not staff."""


def ids(found: list[Any]) -> list[str]:
    return [one.id for one in found]


@pytest.mark.parametrize(
    ("pool", "changes", "expected"),
    [
        (True, {}, []),
        (None, {"CONN_MAX_AGE": 60}, []),
        ({}, {}, ["pymysqlpool.W001"]),
        ({"max_sise": 5}, {}, ["pymysqlpool.E001"]),
        ({"max_size": 0}, {}, ["pymysqlpool.E001"]),
        (True, {"ssl_mode": "REQUIRED"}, ["pymysqlpool.E001"]),
        (True, {"CONN_MAX_AGE": 60}, ["pymysqlpool.E002"]),
        ({"max_waiting": 0}, {}, ["pymysqlpool.W002"]),
        (None, {"ssl_mode": "REQUIRED"}, ["pymysqlpool.E001"]),
        ({}, {"ssl_mode": "REQUIRED"}, ["pymysqlpool.W001", "pymysqlpool.E001"]),
    ],
)
def test_bad_settings_are_found_without_a_server(
    registered: Any, pool: Any, changes: dict[str, Any], expected: list[str]
) -> None:
    registered(pool, HOST="127.0.0.1", PORT=1, **changes)
    assert ids(checks.check_options()) == expected


def test_pools_that_want_more_than_the_server_has_are_found(registered: Any, alias: str) -> None:
    registered({"max_size": 100})
    assert ids(checks.check_server(databases=[alias])) == []
    with override_settings(PYMYSQLPOOL_PROCESSES=8):
        (found,) = checks.check_server(databases=[alias])
    assert found.id == "pymysqlpool.W003"
    assert "may want 800 connections" in found.msg
    assert ids(checks.check_server(databases=None)) == []


def test_a_lifetime_beyond_the_servers_is_found(registered: Any, alias: str) -> None:
    registered({"max_lifetime": 1_000_000})
    assert ids(checks.check_server(databases=[alias])) == ["pymysqlpool.W004"]


def test_poolstatus_shows_limits_and_whether_they_fit(registered: Any, alias: str) -> None:
    registered({"max_size": 100, "timeout": 7})
    out = io.StringIO()
    call_command("poolstatus", database=[alias], processes=2, stdout=out, no_color=True)
    text = out.getvalue()
    assert "4 at once, 100 at most" in text
    assert "timeout      7 s" in text
    assert "2 processes may want 200 of 300 connections" in text
    assert text.rstrip().endswith("fits")


def test_poolstatus_says_when_a_server_is_out_of_reach(registered: Any, alias: str) -> None:
    registered({"max_size": 2, "timeout": 0.1}, PORT=1)
    out, err = io.StringIO(), io.StringIO()
    call_command("poolstatus", database=[alias], stdout=out, stderr=err, no_color=True)
    assert "not reached" in err.getvalue()


def test_poolstatus_without_pools_says_so(registered: Any, alias: str) -> None:
    registered(None)
    out = io.StringIO()
    call_command("poolstatus", database=[alias], stdout=out)
    assert "No database has" in out.getvalue()
    with pytest.raises(CommandError):
        call_command("poolstatus", "--unknown")


def test_the_view_shows_this_processes_pools_to_staff_only(registered: Any, alias: str) -> None:
    wrapper = registered()
    wrapper.ensure_connection()
    request = RequestFactory().get("/pools/")
    request.user = SimpleNamespace(is_active=True, is_staff=True)  # type: ignore[assignment]
    told = json.loads(views.pool_status(request).content)
    assert told["pools"][alias][0]["in_use"] == 1
    request.user = AnonymousUser()
    site = (path("admin/", include(([path("login/", login, name="login")], "admin"))),)
    with override_settings(ROOT_URLCONF=site, ALLOWED_HOSTS=["testserver"]):
        assert views.pool_status(request).status_code == 302


def test_the_page_is_for_staff_and_the_metrics_are_for_a_scraper(registered: Any, alias: str) -> None:
    wrapper = registered()
    wrapper.ensure_connection()
    pool = next(found for found in metrics.pools() if found.borrowers())
    request = RequestFactory().get("/pools/")
    request.user = SimpleNamespace(is_active=True, is_staff=True)  # type: ignore[assignment]
    page = views.status_page(request)
    assert pool.label in page.content.decode()
    assert page["Cache-Control"] == "no-store"
    assert "db_client_connection_count" in views.metrics(request).content.decode()
    request.user = AnonymousUser()
    site = (path("admin/", include(([path("login/", login, name="login")], "admin"))),)
    with override_settings(ROOT_URLCONF=site, ALLOWED_HOSTS=["testserver"]):
        assert views.status_page(request).status_code == 302


def test_on_a_site_without_the_admin_the_page_sends_others_to_its_own_login(registered: Any, alias: str) -> None:
    registered()
    request = RequestFactory().get("/pools/")
    request.user = AnonymousUser()
    with override_settings(ROOT_URLCONF=(), LOGIN_URL="/enter/", ALLOWED_HOSTS=["testserver"]):
        for view in (views.status_page, views.pool_status):
            assert view(request)["Location"].startswith("/enter/?next=")


CHECK = """
def main():
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    try:
        call_command("check", database=["default"])
        report("nothing")
    except SystemCheckError as error:
        report(str(error))
"""


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "backend only"])
@pytest.mark.parametrize(
    ("pool", "changes", "expected"),
    [
        (True, {"CONN_MAX_AGE": 60}, "(pymysqlpool.E002) DATABASES['default']: Pooling doesn't support persistent"),
        (
            {"max_sise": 5},
            {},
            "(pymysqlpool.E001) DATABASES['default']['OPTIONS']['pool'] has unknown options: max_sise",
        ),
        (True, {"ssl_mode": "REQUIRED"}, "(pymysqlpool.E001) DATABASES['default'] cannot be used for a connection: "),
        (True, {"max_size": 5}, "(pymysqlpool.E001) DATABASES['default']['OPTIONS'] has max_size: "),
        (None, {"max_size": 5}, "(pymysqlpool.E001) DATABASES['default']['OPTIONS'] has max_size: "),
    ],
)
def test_check_with_database_reports_unusable_settings_once(
    run_site: RunSite, server: DevServer, installed: bool, pool: Any, changes: dict[str, Any], expected: str
) -> None:
    # Their models' fields and constraints are checked too, for which Django asks what server it is.
    apps = ["django.contrib.contenttypes", "django.contrib.auth", *(["pymysqlpool_django"] if installed else [])]
    told = run_site(CHECK, {"default": database(server, pool, **changes)}, INSTALLED_APPS=apps)
    assert told.count("pymysqlpool.E") == 1, told
    assert expected in told


UNUSABLE = [
    ({"HOST": ["a", "b"]}, "['HOST'] must be text"),
    ({"HOST": "127.0.0.1:3306"}, "has a port in it"),
    ({"HOST": "mysql://me:hunter2@127.0.0.1/shop"}, "host is a URL"),
    ({"PORT": "x"}, "['PORT'] must be a number"),
    ({"PORT": 99999}, "port=99999 must be a whole number"),
    ({"isolation_level": 2}, "['isolation_level'] must be text"),
    ({"init_command": ["SET @a = 1"]}, "init_command=['SET @a = 1'] must be one statement"),
    ({"init_command": "SET @a = 1; SET @b = 2"}, "init_command is more than one statement"),
    ({"charset": "utf8mb5"}, "charset='utf8mb5'"),
    ({"connect_timeout": "10"}, "connect_timeout='10'"),
    ({"cursorclass": "DictCursor"}, "cursorclass='DictCursor'"),
    ({"ssl_disabled": False, "ssl": True}, "ssl=True must be a dict"),
    ({"ssl_disabled": False, "ssl": {"ca": "/nowhere/ca.pem"}}, "ssl['ca']='/nowhere/ca.pem' does not exist"),
    ({"foo": 1}, "unknown option 'foo'"),
]


@pytest.mark.parametrize("pool", [True, None], ids=["pooled", "without a pool"])
@pytest.mark.parametrize(("changes", "expected"), UNUSABLE, ids=[expected for _, expected in UNUSABLE])
def test_what_cannot_connect_is_named_by_the_check_and_at_the_first_use(
    registered: Any, alias: str, pool: Any, changes: dict[str, Any], expected: str
) -> None:
    wrapper = registered(pool, **changes)
    (found,) = checks.check_options()
    assert found.id == "pymysqlpool.E001"
    for use in (wrapper.ensure_connection, lambda: wrapper._nodb_cursor().__enter__()):
        with pytest.raises(ImproperlyConfigured) as caught:
            use()
        assert expected in found.msg
        assert expected in str(caught.value)
        assert alias in found.msg
        assert "hunter2" not in found.msg + "".join(traceback.format_exception(caught.value))


def test_what_is_not_pymysqls_is_named_with_its_place_and_its_like(registered: Any) -> None:
    registered(ssl_mode="REQUIRED")
    (found,) = checks.check_options()
    assert "unknown option 'ssl_mode'" in found.msg
    assert "ssl={'ca': ...}" in found.msg
    assert "['pool']" not in found.msg
