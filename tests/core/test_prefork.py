"""Servers that fork after the pool was used, as real processes (Invariant 13): gunicorn --preload, uWSGI, Celery and
multiprocessing. Each child has sessions of its own, and the parent's go on."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool.devserver import DevServer
from tests.support import run_threads, wait_until

ROOT = Path(__file__).parent.parent.parent
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
APPLICATIONS = ["application:application", "flask_application:app"]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.timeout(150),  # whole servers start and end here
]


def needs(*modules: str) -> Any:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Ground:
    """A folder, the environment for a program, and what it told in the end."""

    def __init__(self, folder: Path, database: dict[str, Any]) -> None:
        self.folder = folder
        self.socket = folder / "http"
        self.told = folder / "told.json"
        self.log = folder / "log"
        self.environment = {
            **os.environ,
            "DATABASE": json.dumps(database),
            "FOLDER": str(folder),
            "TOLD": str(self.told),
            "PYTHONPATH": str(ROOT),
        }

    @contextmanager
    def running(self, command: list[str], ready: Callable[[], Any], **environment: str) -> Iterator[None]:
        """Run `command` until the block ends, then ask it to end."""
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**self.environment, **environment}, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: process.poll() is not None or ready(), f"ready: {command}", timeout=40)
            assert process.poll() is None, self.log.read_text()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, command: list[str]) -> str:
        """Run `command` to its end; what it printed, which must be no complaint."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def ask(self) -> dict[str, Any]:
        """What the application answers to one request, on a connection of its own."""
        web = http.client.HTTPConnection("localhost", timeout=20)
        web.sock = socket.socket(socket.AF_UNIX)
        try:
            web.sock.settimeout(20)
            web.sock.connect(str(self.socket))
            web.request("GET", "/", headers={"Connection": "close"})
            response = web.getresponse()
            body = response.read().decode()
            assert response.status == 200, (response.status, body, self.log.read_text())
            return json.loads(body)  # type: ignore[no-any-return]
        finally:
            web.close()

    def answers(self) -> bool:
        try:
            return bool(self.ask())
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture
def ground(server: DevServer) -> Iterator[Ground]:
    # A short path: it holds a unix socket.
    with tempfile.TemporaryDirectory(prefix="prefork") as folder:
        yield Ground(Path(folder), {**server.connect_args, "ssl_disabled": True})


def status(admin: Any, name: str) -> int:
    with admin.cursor() as cursor:
        cursor.execute("show global status like %s", (name,))
        return int(cursor.fetchone()[1])


def alive(admin: Any, sessions: list[int]) -> bool:
    with admin.cursor() as cursor:
        cursor.execute("select id from information_schema.processlist")
        return set(sessions) <= {session for (session,) in cursor.fetchall()}


def check_children(answers: list[dict[str, Any]], least_processes: int) -> None:
    """Each process answered on sessions that it alone had, and none on one of the parent's."""
    sessions: dict[int, int] = {}
    for answer in answers:
        assert answer["session"] not in answer["before"], "a child used a session of its parent's"
        assert sessions.setdefault(answer["session"], answer["pid"]) == answer["pid"], "two children shared a session"
    assert len(set(sessions.values())) >= least_processes


def check_parent(ground: Ground) -> None:
    """The parent's own sessions answered after its children had ended."""
    assert ground.told.exists(), ground.log.read_text()
    told = json.loads(ground.told.read_text())
    assert told["after"] == told["before"]


@needs("gunicorn")
@pytest.mark.parametrize(
    ("worker_class", "application"),
    [
        ("sync", APPLICATIONS[0]),
        ("gthread", APPLICATIONS[1]),
        pytest.param("sync", APPLICATIONS[1], marks=pytest.mark.slow),
        pytest.param("gthread", APPLICATIONS[0], marks=pytest.mark.slow),
    ],
)
def test_gunicorn_with_preload(ground: Ground, admin: Any, application: str, worker_class: str) -> None:
    """Workers are recycled after 5 requests, so many come and go; the server counts no aborted client."""
    if application.startswith("flask"):
        pytest.importorskip("flask")
    module = f"tests.core.prefork.{application}"
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "tests/core/prefork/gunicorn_conf.py")]
    command += ["--worker-class", worker_class, "--bind", f"unix:{ground.socket}", module]
    aborted = status(admin, "Aborted_clients")
    with ground.running(command, ground.answers, APPLICATION=module.partition(":")[0]):
        answers = run_threads(4, lambda _: [ground.ask() for _ in range(10)])
        assert all(isinstance(one, list) for one in answers), answers
        flat = [answer for some in answers for answer in some]
        assert alive(admin, flat[0]["before"])
    check_children(flat, least_processes=4)
    check_parent(ground)
    assert status(admin, "Aborted_clients") == aborted


@pytest.mark.skipif(UWSGI is None, reason="uWSGI is not installed")
@pytest.mark.parametrize("threads", [1, 4])
def test_uwsgi_prefork(ground: Ground, admin: Any, threads: int) -> None:
    """uWSGI forks without running Python's hooks, and runs no Python threads unless asked."""
    command = [str(UWSGI), "--http-socket", str(ground.socket), "--master", "--processes", "3", "--max-requests", "5"]
    command += ["--need-app", "--die-on-term", "--module", "tests.core.prefork.application"]
    command += ["--threads", str(threads)] if threads > 1 else []
    with ground.running(command, ground.answers):
        answers = run_threads(4, lambda _: [ground.ask() for _ in range(10)])
        assert all(isinstance(one, list) for one in answers), (answers, ground.log.read_text())
        flat = [answer for some in answers for answer in some]
        assert alive(admin, flat[0]["before"]), "the master's sessions live on"
    check_children(flat, least_processes=2)  # the kernel need not wake all three


@needs("celery")
def test_celery_prefork(ground: Ground, admin: Any) -> None:
    """Children are replaced after 3 tasks; they send COM_QUIT where Celery lets them, see the program."""
    folders = {name: ground.folder / name for name in ("queue", "control", "answers")}
    for folder in folders.values():
        folder.mkdir()
    aborted = status(admin, "Aborted_clients")
    module = "tests.core.prefork.celery_application"
    ground.run([sys.executable, "-m", module])
    command = [sys.executable, "-m", "celery", "-A", module, "worker", "--pool", "prefork", "--loglevel", "INFO"]
    command += ["--concurrency", "2", "--max-tasks-per-child", "3"]
    with ground.running(command, lambda: len(list(folders["answers"].iterdir())) == 12):
        answers = [json.loads(told.read_text()) for told in folders["answers"].iterdir()]
    check_children(answers, least_processes=3)
    check_parent(ground)
    assert status(admin, "Aborted_clients") == aborted


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(ground: Ground, admin: Any, method: str) -> None:
    """Its children end without atexit handlers, and send COM_QUIT all the same."""
    aborted = status(admin, "Aborted_clients")
    told = ground.run([sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.core.prefork.children", method])
    check_children(json.loads(told), least_processes=5)
    check_parent(ground)
    assert status(admin, "Aborted_clients") == aborted
