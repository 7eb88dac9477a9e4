"""Run by tests/core/test_secrets.py in a process of its own: Django is configured once in a process."""

from __future__ import annotations

import sys
from typing import Any

import django
from django.conf import settings
from django.db.utils import ConnectionHandler

from tests.core.test_secrets import PASSWORD, open_secrets

IN_POOL: list[Any] = [
    {"timeout": 0.2},
    {"sise": 3},
    {"timeout": -3},
    {"password": PASSWORD},
    {"hosts": [{"host": "127.0.0.1", "password": PASSWORD}]},
    f"mysql://ann:{PASSWORD}@db1/shop",
    [PASSWORD],
]
BESIDE: list[dict[str, Any]] = [
    {"OPTIONS": {"pool": True, "pasword": PASSWORD}},
    {"OPTIONS": {"pool": True, "ssl": {"key": "/nowhere", "cert": "/nowhere", "password": PASSWORD}}},
    {"OPTIONS": {"ssl_disabled": True}},
    {"PASSWORD": [PASSWORD]},
    {"CONN_MAX_AGE": 60, "OPTIONS": {"pool": True}},
]


def connect(port: int, changes: dict[str, Any]) -> None:
    base = {"ENGINE": "pymysqlpool_django", "HOST": "127.0.0.1", "PORT": port, "USER": "nobody_here", "NAME": "test"}
    options = {"ssl_disabled": True, "pool": {"timeout": 0.2}}
    database = {**base, "PASSWORD": PASSWORD, "OPTIONS": options, **changes}
    ConnectionHandler({"default": database})["default"].ensure_connection()


def main(port: int) -> None:
    settings.configure(DATABASES={})
    django.setup()
    for changes in [{"OPTIONS": {"ssl_disabled": True, "pool": pool}} for pool in IN_POOL] + BESIDE:
        found = open_secrets(lambda changes=changes: connect(port, changes))
        if found:
            sys.stdout.write(f"{changes} {found}\n")


main(int(sys.argv[1]))
