"""Settings for Django's own test suite against `pymysqlpool_django`; `run.py` sets the environment they read."""

from __future__ import annotations

import json
import os
from typing import Any

import django


def _database(name: str, engine: str) -> dict[str, Any]:
    ours = engine.startswith("pymysqlpool_django")
    return {
        "ENGINE": engine,
        "HOST": "127.0.0.1",
        "PORT": os.environ["SUITE_PORT"],
        "USER": "root",
        "PASSWORD": os.environ["SUITE_PASSWORD"],
        "NAME": f"suite_{name}",
        "OPTIONS": json.loads(os.environ["SUITE_OPTIONS"]) if ours else {},
        "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_general_ci"},
    }


DATABASES = {
    "default": _database("default", os.environ["SUITE_ENGINE"]),
    "other": _database("other", os.environ["SUITE_ENGINE_OTHER"]),
}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
for _library in ("GDAL_LIBRARY_PATH", "GEOS_LIBRARY_PATH"):  # for gis_tests, where they are not installed
    if _library in os.environ:
        globals()[_library] = os.environ[_library]
if django.VERSION < (6, 0):  # from 6.0 on the suite expects Django's default
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
