"""Small programs as users write them, one for each library or package that people come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pymysqlpool.devserver import DevServer

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_runs_as_it_would_without_the_pool(program: Path, server: DevServer) -> None:
    start = f"import json, sys\nsys.path.insert(0, {str(program.parent)!r})\nimport {program.stem} as program"
    run = subprocess.run(
        [sys.executable, "-c", f"{start}\nprogram.main(json.loads(sys.argv[1]))", json.dumps(server.connect_args)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
