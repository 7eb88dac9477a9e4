"""Django's commands, its test runner and a Celery worker on a pool: real processes of a real project."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django.test.runner
import pytest

from pymysqlpool.devserver import DevServer
from tests.support import wait_until

from .conftest import ROOT, database
from .test_storm import free_port

MANAGE = """
import multiprocessing, os, sys

if __name__ == "__main__":
    if os.environ.get("START_METHOD"):
        multiprocessing.set_start_method(os.environ["START_METHOD"])
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""

SETTINGS = """
SECRET_KEY = "tests"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
DEBUG = True
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "pymysqlpool_django", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": "queue", "data_folder_out": "queue", "processed_folder": "done", "store_processed": False,
    "control_folder": "control", "polling_interval": 0.05,
}
DATABASES = {"default": %r}
"""

MODELS = """
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=50)
    process = models.IntegerField(default=0)
    session = models.IntegerField(default=0)
"""

URLS = """
import os
from django.db import connection
from django.http import JsonResponse
from django.urls import path
from shop.models import Thing

def page(request):
    return JsonResponse([os.getpid(), Thing.objects.count()], safe=False)

urlpatterns = [path("", page)]
"""

TESTS = """
import json, os, urllib.request
from django.db import connection, connections
from django.test import LiveServerTestCase, TestCase, TransactionTestCase
from shop.models import Thing

def where():
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE()")
        return cursor.fetchone()[0]

def expected():
    number = os.environ.get("WORKERS") and r"_[12]" or ""
    return "test_" + os.environ["PRODUCTION"] + number

class Own(TestCase):
    def test_works_in_its_own_database(self):
        self.assertRegex(where(), "^" + expected() + "$")
        Thing.objects.create(name="mine")
        self.assertEqual(Thing.objects.count(), 1)

class OwnToo(Own):
    pass

class Flushed(TransactionTestCase):
    def test_commits_and_is_flushed(self):
        self.assertRegex(where(), "^" + expected() + "$")
        Thing.objects.create(name="mine")
        connections.close_all()
        self.assertEqual(Thing.objects.count(), 1)

class Live(LiveServerTestCase):
    def test_a_live_server_has_connections_of_its_own_and_sees_what_was_committed(self):
        Thing.objects.create(name="mine")
        for _ in range(20):
            with urllib.request.urlopen(self.live_server_url) as answer:
                self.assertEqual(json.load(answer)[1], 1)
"""

CELERY = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from celery import Celery

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")

@app.task
def work(number):
    from django.db import connection, transaction
    from shop.models import Thing
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        session, = cursor.fetchone()
    with transaction.atomic():
        Thing.objects.create(name=str(number), process=os.getpid(), session=session)
"""

# A site that has queried before the worker forks, so that the children inherit a pool with a connection.
APPS = """
from django.apps import AppConfig

class Shop(AppConfig):
    name = "shop"

    def ready(self):
        import os
        if os.environ.get("QUERY_AT_START"):
            from django.db import connection
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
"""


class Project:
    """A Django project in a folder, with a database of its own."""

    def __init__(self, folder: Path, server: DevServer, name: str) -> None:
        self.folder = folder
        self.name = name
        (folder / "shop" / "migrations").mkdir(parents=True)
        for path, text in {
            "manage.py": MANAGE,
            "settings.py": SETTINGS % database(server, NAME=name),
            "shop/__init__.py": "",
            "shop/apps.py": APPS,
            "shop/models.py": MODELS,
            "shop/urls.py": URLS,
            "shop/tests.py": TESTS,
            "shop/celery.py": CELERY,
            "shop/migrations/__init__.py": "",
        }.items():
            (folder / path).write_text(text)
        for queue in ("queue", "done", "control"):
            (folder / queue).mkdir()
        self.manage("makemigrations", "shop")

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        return {**os.environ, "PYTHONPATH": path, "PRODUCTION": self.name, "PYTHONWARNINGS": "default", **more}

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a command to its end; returns what it said."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def running(self, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.fixture
def project(tmp_path: Path, server: DevServer, admin: Any) -> Iterator[Project]:
    name = f"shop_{uuid.uuid4().hex[:6]}"
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield Project(tmp_path, server, name)
        finally:
            cursor.execute("SET lock_wait_timeout = 5")
            cursor.execute(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s", [f"%{name}%"]
            )
            for (database_name,) in cursor.fetchall():
                cursor.execute(f"DROP DATABASE {database_name}")


@pytest.fixture
def sessions(admin: Any, project: Project) -> Callable[[], int]:
    """How many connections the server has to the project's databases."""

    def count() -> int:
        with admin.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE %s", [f"%{project.name}%"]
            )
            return int(cursor.fetchone()[0])

    return count


def clone(admin: Any, source: str, target: str) -> None:
    """What mysqldump would do, which is not everywhere."""
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {target}")
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [source])
        for (table,) in cursor.fetchall():
            cursor.execute(f"CREATE TABLE {target}.{table} LIKE {source}.{table}")
            cursor.execute(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")


@pytest.mark.timeout(240)
def test_the_test_runner_serial_kept_and_in_parallel(project: Project, admin: Any, sessions: Callable[[], int]) -> None:
    """keepdb, LiveServerTestCase, flushes, and two worker processes by each start method that this Django knows."""
    assert "Ran 4 tests" in project.manage("test", "--keepdb", QUERY_AT_START="1")
    assert "Ran 4 tests" in project.manage("test", "--keepdb"), "with the database that was kept"
    for number in (1, 2):
        clone(admin, f"test_{project.name}", f"test_{project.name}_{number}")
    known = [name for name in ("fork", "spawn", "forkserver") if name in inspect.getsource(django.test.runner)]
    assert known[:2] == ["fork", "spawn"]
    for method in known:
        told = project.manage(
            "test", "--keepdb", "--parallel", "2", START_METHOD=method, WORKERS="2", QUERY_AT_START="1"
        )
        assert "Ran 4 tests" in told, method
    assert "Ran 4 tests" in project.manage("test", "--noinput")
    with admin.cursor() as cursor:
        assert not cursor.execute("SHOW DATABASES LIKE %s", [f"test_{project.name}"]), "destroyed, and not for ever"
    wait_until(lambda: sessions() == 0, "no connection is left")


@pytest.mark.skipif(not shutil.which("mysqldump"), reason="Django clones databases with mysqldump, which is not here")
@pytest.mark.timeout(120)
def test_databases_are_cloned_for_parallel_tests(project: Project) -> None:
    told = project.manage("test", "--parallel", "2", "-v2", "--noinput", START_METHOD="fork", WORKERS="2")
    assert "Ran 4 tests" in told
    assert "Cloning test database" in told


@pytest.mark.skipif(not shutil.which("mysql"), reason="dbshell runs the client program mysql, which is not here")
def test_dbshell_opens_the_database(project: Project) -> None:
    assert project.name in project.manage("dbshell", "--", "-e", "SELECT DATABASE()")


@pytest.mark.timeout(120)
def test_runserver_answers_and_its_reload_leaves_no_connection_behind(
    project: Project, sessions: Callable[[], int]
) -> None:
    project.manage("migrate")
    port = free_port()

    def answer() -> tuple[int, int] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                process, count = json.load(response)
                return int(process), int(count)
        except OSError:
            return None

    with project.running("manage.py", "runserver", f"127.0.0.1:{port}"):
        first = wait_until(answer, "the server answers", 40)
        assert [answer() for _ in range(30)] == [first] * 30
        assert sessions() == 1, "one thread per request, and one connection for all of them"
        for _ in range(8):  # a change before the reloader's first look is none to it
            (project.folder / "shop" / "urls.py").write_text(URLS.replace("Thing.objects.count()", "42"))
            with suppress(AssertionError):
                wait_until(lambda: (answer() or first)[0] != first[0], "the code is loaded anew", 10)
                break
        process, count = wait_until(answer, "the server answers again", 40)
        assert process != first[0]
        assert count == 42
        wait_until(lambda: sessions() == 1, "the connection of the process before is gone")
    wait_until(lambda: answer() is None, "the server is gone", 20)


@pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="Celery is not installed")
@pytest.mark.timeout(120)
def test_a_celery_worker_that_forks(project: Project, admin: Any, sessions: Callable[[], int]) -> None:
    """Each child has sessions of its own; what the parent had stays the parent's; all go at the end."""
    project.manage("migrate")
    send = "from shop.celery import work; [work.delay(number) for number in range(40)]"
    done = subprocess.run(
        [sys.executable, "-c", send], cwd=project.folder, env=project.environment(), capture_output=True, timeout=40
    )
    assert done.returncode == 0, done.stderr
    rows: list[Any] = []

    def all_done() -> bool:
        with admin.cursor() as cursor:
            cursor.execute(f"SELECT name, process, session FROM {project.name}.shop_thing")
            rows[:] = cursor.fetchall()
        return len(rows) == 40

    worker = ["-m", "celery", "-A", "shop.celery", "worker", "--pool", "prefork", "--concurrency", "2", "-l", "error"]
    with project.running(*worker, QUERY_AT_START="1") as process:
        wait_until(all_done, "all tasks are done", 60)
        assert {name for name, _, _ in rows} == {str(number) for number in range(40)}
        processes = {pid for _, pid, _ in rows}
        assert len(processes) == 2
        assert process.pid not in processes
        owners: dict[int, set[int]] = {}
        for _, pid, session in rows:
            owners.setdefault(session, set()).add(pid)
        assert all(len(pids) == 1 for pids in owners.values()), "no session served two processes"
        wait_until(lambda: sessions() <= 1, "Celery closes the pools after each task; the parent may have one", 20)
    wait_until(lambda: sessions() == 0, "no connection outlives the worker", 20)
