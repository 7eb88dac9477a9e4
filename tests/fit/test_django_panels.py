"""Sentry, django-debug-toolbar and django-silk record of a pooled statement what they record of Django's own backend.

The real packages, each in a process of its own, since they change Django for good. Each program asks one statement by
the stock backend and the same one by the pooled backend, and prints what the package recorded of each.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

BEGIN = """
import json, sys
import pymysql
pymysql.install_as_MySQLdb()
pymysql.version_info = (2, 2, 7, "final", 0)
import django
from django.conf import settings

where = json.loads(sys.argv[1])
with pymysql.connect(**where) as connection, connection.cursor() as cursor:
    cursor.execute("CREATE DATABASE IF NOT EXISTS panels")
where["database"] = "panels"
common = {"NAME": where["database"], "USER": where["user"], "PASSWORD": where["password"], "HOST": where["host"],
          "PORT": where["port"]}
settings.configure(
    DATABASES={
        "default": {"ENGINE": "pymysqlpool_django", "OPTIONS": {"pool": True}, **common},
        "stock": {"ENGINE": "django.db.backends.mysql", **common},
    },
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DEBUG=True, INTERNAL_IPS=["127.0.0.1"],
    USE_TZ=True, STATIC_URL="/static/",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.staticfiles", *MORE_APPS],
    MIDDLEWARE=MORE_MIDDLEWARE, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()
from django.db import connections
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path

def ask(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT %s + 1", [1])
        assert cursor.fetchone()[0] == 2

def view(request, alias):
    ask(alias)
    return HttpResponse("<html><body>done</body></html>")
"""

SENTRY = (
    """
import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport

MORE_APPS, MORE_MIDDLEWARE = [], []
recorded = []

class Keep(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            event = item.payload.json or {}
            recorded.extend(event.get("spans") or [])

sentry_sdk.init(
    "https://key@localhost/1", transport=Keep, traces_sample_rate=1.0, integrations=[DjangoIntegration()],
    default_integrations=False,
)
"""
    + BEGIN
    + """
def seen(alias):
    del recorded[:]
    with sentry_sdk.start_transaction(op="http.server", name="request"):
        ask(alias)
    sentry_sdk.flush()
    return [
        (span["op"], span["description"], span["data"].get("db.system"), span["data"].get("server.port"))
        for span in recorded
        if "+ 1" in span["description"]
    ]
urlpatterns = []
"""
)

TOOLBAR = (
    """
MORE_APPS = ["debug_toolbar"]
MORE_MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
"""
    + BEGIN
    + """
import debug_toolbar
from debug_toolbar.panels.sql import panel as sql_panel

recorded = []
usual = sql_panel.SQLPanel.record

def record(self, **query):
    recorded.append((query["sql"], query["vendor"]))
    return usual(self, **query)

sql_panel.SQLPanel.record = record
urlpatterns = [path("ask/<alias>", view), path("__debug__/", include("debug_toolbar.urls"))]

def seen(alias):
    del recorded[:]
    assert Client().get(f"/ask/{alias}").status_code == 200
    return [one for one in recorded if "+ 1" in str(one)]
"""
)

SILK = (
    """
MORE_APPS = ["silk"]
MORE_MIDDLEWARE = ["silk.middleware.SilkyMiddleware"]
"""
    + BEGIN
    + """
from silk.collector import DataCollector

recorded = []
usual = DataCollector.register_query

def register_query(self, *queries):
    recorded.extend(query["query"] for query in queries)
    return usual(self, *queries)

DataCollector.register_query = register_query
from django.contrib.contenttypes.models import ContentType

def orm(request, alias):
    list(ContentType.objects.using(alias).filter(app_label="shop"))
    return HttpResponse("done")

urlpatterns = [path("ask/<alias>", orm), path("silk/", include("silk.urls", namespace="silk"))]
from django.core.management import call_command
call_command("migrate", verbosity=0)

def seen(alias):
    del recorded[:]
    assert Client().get(f"/ask/{alias}").status_code == 200
    return [sql for sql in recorded if "WHERE" in sql and "django_content_type" in sql]
"""
)

END = """
print(json.dumps([seen("stock"), seen("default"), seen("default")]))
"""

PROGRAMS = {"sentry_sdk": SENTRY, "debug_toolbar": TOOLBAR, "silk": SILK}


@pytest.mark.parametrize("package", PROGRAMS)
def test_a_tool_for_django_records_a_pooled_statement_as_it_does_one_of_the_stock_backend(
    package: str, connect_args: dict[str, Any]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAMS[package] + END, json.dumps(connect_args)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain, first, second = json.loads(done.stdout.splitlines()[-1])
    assert plain, "the package recorded nothing of the stock backend"
    assert first == second == plain
