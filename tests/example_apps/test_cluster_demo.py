"""The tour of the board on a Galera cluster, as a newcomer runs it: it shows what it claims, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.routing.servers import provider
from tests.support import wait_until

pytest.importorskip("waitress")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(provider() is None, reason="needs Galera's library (Debian: apt-get install galera-4)"),
]

ROOT = Path(__file__).parent.parent.parent
LONGEST = 120  # seconds


@contextmanager
def demo() -> Iterator[subprocess.Popen[str]]:
    """The demo, with a temporary folder of its own in which it must leave nothing."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        with subprocess.Popen(
            [sys.executable, "-u", "-m", "example_apps.flask_app.cluster"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
        ) as started:
            try:
                yield started
            finally:
                started.kill()
        wait_until(lambda: not os.listdir(folder), "the folders are gone")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(LONGEST + 30)
def test_the_tour_of_a_cluster_shows_all_it_claims() -> None:
    with demo() as started:
        said = started.communicate(timeout=LONGEST)[0]
        assert started.returncode == 0, said
    assert "nothing that was acknowledged is lost" in said, said
    assert "all others were asked to come back" in said, said
    assert re.search(r"the pool's log: \S+ is down\n", said), said


@pytest.mark.timeout(LONGEST + 30)
def test_an_interrupted_tour_of_a_cluster_leaves_no_process_and_no_folder() -> None:
    with demo() as started:
        assert started.stdout is not None
        nodes = []
        for line in started.stdout:
            nodes += map(int, re.findall(r", process (\d+)", line))
            if line.startswith("3."):
                break
        assert len(nodes) == 3
        started.send_signal(signal.SIGINT)
        said = started.communicate(timeout=30)[0]
        assert started.returncode == 130, said
        assert "Traceback" not in said, said
        assert not any(map(is_alive, nodes))
