"""The harbour log's demonstration keeps its promises, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import ROOT


def test_the_tour_shows_all_it_claims() -> None:
    for needed in ("starlette", "uvicorn", "websockets"):
        pytest.importorskip(needed)
    tour = subprocess.run(
        [sys.executable, "-m", "example_apps.asgi_app.demo", "--tour"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert tour.stdout.count("   shown: ") == 5
    assert tour.stderr == ""
