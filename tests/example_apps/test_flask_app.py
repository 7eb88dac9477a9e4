"""The demo as a newcomer runs it: a process of its own, the tour, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from example_apps.flask_app.app import create_app

pytest.importorskip("waitress")

ROOT = Path(__file__).parent.parent.parent
DEMO = [sys.executable, "-u", "-m", "example_apps.flask_app.demo"]
STEPS = 5


@pytest.fixture
def temporary() -> object:
    """A temporary folder of its own, short enough for a socket's path, in which nothing may be left."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        yield folder
        assert os.listdir(folder) == []


def test_the_tour_shows_all_it_claims_and_exits_with_0(temporary: str) -> None:
    ran = subprocess.run(
        [*DEMO, "--tour"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": temporary},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("shown: ") == STEPS
    assert "NOT SHOWN" not in ran.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_folder(temporary: str, stop: signal.Signals) -> None:
    with subprocess.Popen(
        [*DEMO, "--tour"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": temporary},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    ) as demo:
        assert demo.stdout is not None
        server = int(next(line for line in demo.stdout if "process" in line).split("process ")[1].split(";")[0])
        while not next(demo.stdout).startswith("4."):
            pass
        demo.send_signal(stop)
        demo.stdout.read()
        assert demo.wait(20) == {signal.SIGINT: 130, signal.SIGTERM: 143}[stop]
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_a_port_that_is_taken_is_said_and_leaves_nothing(temporary: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [*DEMO, "--tour", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": temporary},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=55,
        )
    assert ran.returncode == 1
    assert f"error: port {port}" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("origin", "status"), [("http://elsewhere.example", 403), ("null", 403), ("http://localhost", 404), (None, 404)]
)
def test_a_form_on_another_site_cannot_write_here(
    connect_args: dict[str, Any], origin: str | None, status: int
) -> None:
    """404: the request got as far as the routes."""
    app = create_app({"PYMYSQLPOOL": connect_args})
    headers = {} if origin is None else {"Origin": origin}
    assert app.test_client().post("/nowhere", headers=headers).status_code == status
