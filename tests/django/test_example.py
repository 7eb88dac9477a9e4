"""The example site, as a newcomer meets it: `scripts/demo django --tour`."""

from __future__ import annotations

import os
import subprocess
import sys

from .conftest import ROOT


def test_the_tour_shows_all_it_claims() -> None:
    command = [sys.executable, "-m", "example_apps.django_app.demo", "--tour"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
