"""Django for these tests: configured once without databases; each test has connection handlers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool.devserver import DevServer

django = pytest.importorskip("django")

from django.conf import settings  # noqa: E402 - only where there is a Django

ROOT = Path(__file__).parents[2]

# The isolation level of a session: each server reads its own comment.
ISOLATION = "/*M!100000 @@tx_isolation *//*!80000 @@transaction_isolation */"

if not settings.configured:
    settings.configure(
        USE_TZ=True,
        SECRET_KEY="tests",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "pymysqlpool_django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()

from django.db.utils import ConnectionHandler  # noqa: E402 - after the settings

from pymysqlpool_django import pools  # noqa: E402


def database(server: DevServer, pool: Any = True, **changes: Any) -> dict[str, Any]:
    """An entry for DATABASES. `changes` go into OPTIONS when lower case."""
    options = {name: value for name, value in changes.items() if name.islower()}
    upper = {name: value for name, value in changes.items() if not name.islower()}
    if pool is not None:
        options["pool"] = pool
    return {
        "ENGINE": "pymysqlpool_django",
        "HOST": server.host,
        "PORT": server.port,
        "USER": "root",
        "PASSWORD": server.connect_args["password"],
        "NAME": "test",
        "OPTIONS": {"ssl_disabled": True, **options},
        **upper,
    }


@pytest.fixture
def alias() -> Iterator[str]:
    """A name of a database that no other test uses; its pools are closed at the end."""
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    pools.close(name)


Connect = Callable[..., Any]


@pytest.fixture
def connect(server: DevServer, alias: str) -> Iterator[Connect]:
    """Make wrappers of one alias, as Django does in each thread; `connect(pool, NAME=..., init_command=...)`."""
    made: list[Any] = []

    def make(pool: Any = True, **changes: Any) -> Any:
        handler = ConnectionHandler({"default": {}, alias: database(server, pool, **changes)})
        wrapper = handler[alias]
        made.append(wrapper)
        return wrapper

    yield make
    for wrapper in made:
        wrapper.inc_thread_sharing()
        wrapper.close()


@pytest.fixture
def table(admin: Any) -> Iterator[str]:
    """A table of numbers and names."""
    name = f"things_{uuid.uuid4().hex[:8]}"
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE)")
    yield name
    with admin.cursor() as cursor:
        cursor.execute("SET lock_wait_timeout = 5")
        cursor.execute(f"DROP TABLE {name}")


RunSite = Callable[..., Any]


@pytest.fixture
def run_site(server: DevServer, tmp_path: Path) -> RunSite:
    """Run code in a Django site of its own, in a new process; returns what it passed to `report()`."""

    def run(code: str, databases: dict[str, Any], path: tuple[Path, ...] = (), **more: Any) -> Any:
        (tmp_path / "site_settings.py").write_text(
            "SECRET_KEY = 'tests'\nUSE_TZ = True\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'site_code'\n"
            f"DATABASES = {databases!r}\n" + "".join(f"{name} = {value!r}\n" for name, value in more.items())
        )
        (tmp_path / "site_code.py").write_text(
            "import json, sys\n\ndef report(value):\n    print('REPORT', json.dumps(value), flush=True)\n\n"
            "urlpatterns = []\n\n" + code
        )
        start = (
            "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'site_settings'\n"
            "import django; django.setup()\nimport site_code\nsite_code.main()"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, *path, ROOT)))}
        done = subprocess.run(
            [sys.executable, "-c", start], env=environment, capture_output=True, text=True, timeout=50
        )
        reports = [line.removeprefix("REPORT ") for line in done.stdout.splitlines() if line.startswith("REPORT ")]
        assert done.returncode == 0, done.stderr
        assert reports, done.stdout + done.stderr
        return json.loads(reports[-1])

    return run
